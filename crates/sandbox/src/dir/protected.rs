//! Names that no tool may create or change.
//!
//! `.otto` holds the settings that say what an agent may do, `.git` holds hooks and settings that run
//! programs when a person uses git. The rule is about names, anywhere in the path: a nested repository's
//! `.git` is as dangerous as the one at the top. It is exact because writes follow no links.

const PROTECTED: [&str; 2] = [".otto", ".git"];

/// Whether a component of a path may not be created or changed by a tool. File systems that fold letters
/// or ignore invisible characters must not open a second spelling, so the comparison does both.
#[must_use]
pub fn is_protected_name(name: &str) -> bool {
    let mut plain = String::with_capacity(name.len());
    plain.extend(
        name.chars()
            .filter(|c| !is_ignorable(*c))
            .map(|c| c.to_ascii_lowercase()),
    );
    // Trailing dots and spaces are dropped by file systems of another world that Linux can mount.
    let plain = plain.trim_end_matches([' ', '.']);
    PROTECTED.contains(&plain)
}

/// Unicode's `Default_Ignorable_Code_Point` as far as case-folding file systems skip it.
const fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::is_protected_name;

    #[test]
    fn every_spelling_of_a_protected_name_is_protected() {
        for name in [
            ".otto",
            ".git",
            ".Otto",
            ".GIT",
            ".gi\u{200d}t",
            "\u{feff}.git",
            ".otto.",
            ".git ",
            ".OT\u{e0041}TO",
        ] {
            assert!(is_protected_name(name), "{name:?}");
        }
        for name in [
            "otto",
            "git",
            ".gitignore",
            ".github",
            ".otto-tools",
            "x.git",
            ".gitü",
            "..",
            ".",
        ] {
            assert!(!is_protected_name(name), "{name:?}");
        }
    }
}
