//! The redactor from outside: what must be masked, what must not, and that pieces make no difference.

use otto_core::redact::{
    ExactSecret, MAX_HELD_BYTES, MAX_LINE_PIECE_BYTES, OperatorPattern, RedactionConfig, Redactor,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::support::check;

/// Cases of each property. Unoptimized pattern matching is slow; `PROPTEST_CASES=20000` runs more.
const CASES: u32 = 4_000;

/// Secrets that the tests plant: made up, in the format of their issuers. The parts are joined here so that
/// no scanner takes this file for a leak.
fn planted() -> Vec<(&'static str, String)> {
    let join = |parts: &[&str]| parts.concat();
    vec![
        (
            "anthropic-key",
            join(&[
                "sk-",
                "ant-api03-",
                "Zk3Jx9QpLm7Rt2Vw8YbN4cD6fH1gS5aE0uIoP-_xAA",
            ]),
        ),
        (
            "openai-key",
            join(&["sk-", "proj-", "q7Vw2Lm9Xc4Rt8Yb1Nf6Hd3Gs5Ka0Je"]),
        ),
        (
            "openai-key",
            join(&["sk-", "T3BlbkFJq7Vw2Lm9Xc4Rt8Yb1Nf6Hd3"]),
        ),
        ("aws-access-key", join(&["AKI", "A5X7QJ2MZP4RTVW9K"])),
        (
            "github-token",
            join(&["gh", "p_", "x7Kq2Lm9Vc4Rt8Yb1Nf6Hd3Gs5Ka0JeWzQp4"]),
        ),
        (
            "github-token",
            join(&["github", "_pat_", "11ABCDE7Y0x7Kq2Lm9Vc4R_t8Yb1Nf6Hd3Gs5"]),
        ),
        (
            "gitlab-token",
            join(&["gl", "pat-", "x7Kq2Lm9Vc4Rt8Yb1Nf6"]),
        ),
        (
            "slack-token",
            join(&["xo", "xb-", "176536724812-198746983234-x7Kq2Lm9Vc4Rt8Yb"]),
        ),
        (
            "google-key",
            join(&["AI", "za", "SyD4x7Kq2Lm9Vc4Rt8Yb1Nf6Hd3Gs5Ka0Je"]),
        ),
        (
            "stripe-key",
            join(&["sk_", "live_", "51x7Kq2Lm9Vc4Rt8Yb1Nf6Hd3Gs5"]),
        ),
        (
            "service-token",
            join(&["npm", "_", "x7Kq2Lm9Vc4Rt8Yb1Nf6Hd3Gs5Ka0JeWzQp4"]),
        ),
        (
            "service-token",
            join(&["hf", "_", "x7KqaLmdVcjRtkYbwNfiHdoGsrKatJeWzQp4"]),
        ),
        (
            "jwt",
            join(&[
                "ey",
                "JhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
                ".eyJzdWIiOiIxMjM0NTY3ODkwIn0",
                ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
            ]),
        ),
    ]
}

/// Texts with the place of a secret in them, which only context makes one.
const CONTEXTS: &[(&str, &str, &str)] = &[
    ("assignment", "API_KEY=", "q7Vw2Lm9Xc4Rt8Yb1N"),
    (
        "assignment",
        "export SERVICE_API_KEY='",
        "q7Vw2Lm9Xc4Rt8Yb1N",
    ),
    ("assignment", "\"client_secret\": \"", "q7Vw2Lm9Xc4Rt8Yb1N"),
    (
        "assignment",
        "\\\"access_key\\\": \\\"",
        "q7Vw2Lm9Xc4Rt8Yb1N",
    ),
    ("assignment", "auth-token := ", "q7Vw2Lm9Xc4Rt8Yb1N"),
    ("assignment", "Secret => ", "q7Vw2Lm9Xc4Rt8Yb1N"),
    ("assignment", "db.password = ", "q7Vw2Lm9Xc4Rt8Yb1N"),
    ("assignment", "PASSWORD: ", "Tr0ub4dor&3x"),
    (
        "assignment",
        "x-api-key: ",
        "9f86d081884c7d659a2feaa0c55ad015",
    ),
    (
        "aws-secret-key",
        "aws_secret_access_key = ",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    ),
    (
        "authorization",
        "Authorization: Bearer ",
        "q7Vw2Lm9Xc4Rt8Yb1N",
    ),
    (
        "authorization",
        "authorization: basic ",
        "dXNlcjpwYXNzd29yZA==",
    ),
    (
        "authorization",
        "-H \"Authorization: token ",
        "q7Vw2Lm9Xc4Rt8Yb1N",
    ),
    ("authorization", "sent as bearer ", "q7Vw2Lm9Xc4Rt8Yb1N"),
    ("url-password", "postgres://admin:", "hunter2"),
    ("url-password", "https://:", "q7Vw2Lm9Xc4Rt8Yb1N"),
    (
        "slack-webhook",
        "https://hooks.slack.com/services/",
        "T00AB12CD/B00EF34GH/q7Vw2Lm9Xc4Rt8Yb1NfHdGsK",
    ),
];

/// What the secret in a context is followed by.
fn closing(kind: &str) -> &'static str {
    if kind == "url-password" {
        "@db.example.com/x"
    } else {
        " end"
    }
}

fn pem() -> String {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7x7Kq2Lm9Vc4R";
    format!(
        "-----BEGIN RSA {0}-----\n{line}\n{line}\nAA==\n-----END RSA {0}-----",
        ["PRIVATE", "KEY"].join(" ")
    )
}

#[test]
fn every_known_format_is_masked_in_every_surrounding() {
    let redactor = Redactor::built_in();
    for (kind, secret) in planted() {
        for (before, after) in [
            ("", ""),
            ("key ", " end"),
            ("\"", "\""),
            ("KEY=", "\n"),
            ("{\"k\":\"", "\"}"),
            ("\\n", "\\n"),
            ("\\u000a", "\\\""),
            ("%0A", "&x=1"),
            ("(", ")"),
            ("<k>", "</k>"),
            ("\u{e9}", "\u{e9}"),
            ("`", "`"),
        ] {
            let text = format!("{before}{secret}{after}");
            let masked = redactor.redact(&text);
            assert!(
                masked.contains(&format!("[redacted:{kind}]")),
                "{text}\n{masked}"
            );
            assert!(!leaks(&masked, &secret), "{text}\n{masked}");
            assert!(
                masked.starts_with(before) || kind == "assignment",
                "{masked}"
            );
            assert!(masked.ends_with(after), "{masked}");
        }
    }
}

#[test]
fn context_makes_a_secret() {
    let redactor = Redactor::built_in();
    for (kind, before, secret) in CONTEXTS {
        let text = format!("{before}{secret}{}", closing(kind));
        let masked = redactor.redact(&text);
        assert_eq!(
            masked,
            format!("{before}[redacted:{kind}]{}", closing(kind)),
            "{text}"
        );
    }
}

#[test]
fn private_keys_are_masked_whole() {
    let redactor = Redactor::built_in();
    let pem = pem();
    assert_eq!(
        redactor.redact(&format!("a\n{pem}\nb")),
        "a\n[redacted:private-key]\nb"
    );
    let escaped = pem.replace('\n', "\\n");
    assert_eq!(
        redactor.redact(&format!("{{\"k\":\"{escaped}\\n\"}}")),
        "{\"k\":\"[redacted:private-key]\\n\"}"
    );
    let cut = &pem[..pem.len() / 2];
    assert_eq!(redactor.redact(cut), "[redacted:private-key]");
}

#[test]
fn a_long_secret_is_masked_to_its_end() {
    let redactor = Redactor::built_in();
    let text = format!("token: {}{} end", planted()[0].1, "q7Vw2Lm9".repeat(20_000));
    assert_eq!(
        redactor.redact(&text),
        "token: [redacted:anthropic-key] end"
    );
    let mut stream = redactor.stream();
    let mut out = String::new();
    for piece in text.as_bytes().chunks(1_000) {
        out += &stream.push(std::str::from_utf8(piece).unwrap());
        assert!(stream.held_bytes() < 2_000, "a tail is not held back");
    }
    out += &stream.finish();
    assert_eq!(out, "token: [redacted:anthropic-key] end");
}

/// Ordinary texts that look a little like secrets.
const KEEP: &[&str] = &[
    "let token = parser.next_token(); if token == Token::OpenBrace { return Err(Error::UnexpectedToken(token)); }",
    "pub fn password_hash(password: &str, salt: &Salt) -> Result<PasswordHash, Error> {",
    "password = get_password_from_prompt(\"Password: \")",
    "api_key = os.environ[\"ANTHROPIC_API_KEY\"]",
    "api_key: ${ANTHROPIC_API_KEY:?set the key}",
    "apiKey: process.env.SERVICE_API_KEY2,",
    "secret: config.secrets.database_primary",
    "commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "\"checksum\": \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
    "session 0190b3c2-7d4e-7abc-8def-0123456789ab, invocation 0190b3c2-7d4e-7abc-8def-0123456789ac",
    "src=\"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==\"",
    "integrity=\"sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wC\"",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl user@host",
    "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----",
    "https://example.com:8443/path?user=a@b.com and http://localhost:8080/x",
    "https://example.com:8443?next=a@b.com",
    "git@github.com:owner/repository.git, ssh://git@example.com:22/owner/repository.git",
    "\"next_page_token\": \"CAUQAA9x7Kq2Lm9Vc4Rt8Yb\", \"pageToken\": \"CAUQAA9x7Kq2Lm9Vc4Rt8Yb\"",
    "max_tokens: 16384, input_tokens=1234567890",
    "use a Bearer token for authentication, as in `Authorization: Bearer <token>`",
    "Authorization: Basic authentication is described in RFC 7617",
    "risk-adjusted-return-of-portfolio-2024 and task-runner-with-a-very-long-name-1",
    "sk-learn-contrib-project-template, desk-organizer-with-drawers-and-lamp-42",
    "AKIA is the prefix; ASIA is for temporary keys; ghp_ and gho_ are for GitHub",
    "the key begins with sk-ant-... and is 108 characters long",
    "eyJ is base64 of an opening brace and a quote",
    "version: 1.2.3-beta.4+build.20240115, released 2024-01-15T10:00:00Z",
    "token_count = 42; tokenizer: \"cl100k_base\"; tokens: [1, 2, 3]",
    "fn secret_key(&self) -> &SecretKey { &self.secret_key }",
    "const TOKEN: &str = \"token\"; const PASSWORD_FIELD: &str = \"password\";",
    "password: changeme123, passphrase: correct-horse-battery-staple",
    "PASSWORD=$DB_PASSWORD1 ./run.sh",
    "credentials: include, secretKeyRef: { name: db, key: password }",
    "Zm9vIGJhciBiYXogcXV4IHF1dXggY29yZ2UgZ3JhdWx0IGdhcnBseSB3YWxkbyBmcmVkIHBsdWdoIHh5enp5IHRodWQ=",
    "[redacted:jwt] and [redacted:assignment] were here",
];

#[test]
fn ordinary_text_is_kept() {
    let redactor = Redactor::built_in();
    for text in KEEP {
        assert_eq!(redactor.redact(text), *text);
        assert!(
            matches!(redactor.redact(text), std::borrow::Cow::Borrowed(_)),
            "clean text is not copied: {text}"
        );
    }
}

fn config() -> RedactionConfig {
    let pattern = |name: &str, pattern: &str| OperatorPattern {
        name: name.to_owned(),
        pattern: pattern.to_owned(),
    };
    let secret = |name: &str, value: &str| ExactSecret {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    RedactionConfig {
        patterns: vec![
            pattern("card", "[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{4}"),
            pattern(
                "customer",
                "(?i)customer[ =:]+(?P<secret>[a-z]{3,}-?[0-9]+)",
            ),
            pattern("tail", "%%.*"),
            pattern("ticket", "T\u{e9}[0-9]+x?"),
        ],
        secrets: vec![
            secret("SERVICE_KEY", "correct horse battery"),
            secret("overlap-a", "alphabetagamma"),
            secret("overlap-b", "gammadeltaepsilon"),
            secret("odd", "a\"b\\c/\u{f6}\u{1F600} d&e"),
            secret("lines", "first secret line\nsecond secret line\n"),
        ],
    }
}

#[test]
fn exact_values_are_masked_in_every_form() {
    let redactor = Redactor::new(&config()).unwrap();
    for (text, expected) in [
        (
            "it is correct horse battery.",
            "it is [redacted:SERVICE_KEY].",
        ),
        (
            "?k=correct%20horse%20battery&x",
            "?k=[redacted:SERVICE_KEY]&x",
        ),
        ("?k=correct+horse+battery&x", "?k=[redacted:SERVICE_KEY]&x"),
        ("\"a\\\"b\\\\c/\u{f6}\u{1F600} d&e\"", "\"[redacted:odd]\""),
        (
            "\"a\\\"b\\\\c\\/\u{f6}\u{1F600} d&e\"",
            "\"[redacted:odd]\"",
        ),
        (
            "\"a\\\"b\\\\c/\\u00f6\\ud83d\\ude00 d&e\"",
            "\"[redacted:odd]\"",
        ),
        ("first secret line\nsecond secret line", "[redacted:lines]"),
        ("> second secret line <", "> [redacted:lines] <"),
        ("first secret line\\nsecond secret line", "[redacted:lines]"),
        // base64 of "correct horse battery" and of "user:correct horse battery"
        ("Y29ycmVjdCBob3JzZSBiYXR0ZXJ5", "[redacted:SERVICE_KEY]"),
        (
            "dXNlcjpjb3JyZWN0IGhvcnNlIGJhdHRlcnk=",
            "dXNlcjp[redacted:SERVICE_KEY]k=",
        ),
        // A text that was cut in the middle of a value, and one that only begins like it.
        ("it is correct horse ba", "it is [redacted:SERVICE_KEY]"),
        ("it is correct hor", "it is correct hor"),
        // Two values that share letters are one masked piece.
        ("xalphabetagammadeltaepsilonx", "x[redacted:overlap-a]x"),
    ] {
        assert_eq!(redactor.redact(text), expected, "{text}");
    }
}

#[test]
fn operator_patterns_work_within_lines() {
    let redactor = Redactor::new(&config()).unwrap();
    for (text, expected) in [
        ("pay 1234-5678-9012-3456 now", "pay [redacted:card] now"),
        (
            "Customer = abc-77, next",
            "Customer = [redacted:customer], next",
        ),
        ("a %% all of it\nnext line", "a [redacted:tail]\nnext line"),
        ("T\u{e9}12x T\u{e9}", "[redacted:ticket] T\u{e9}"),
        (
            "%% before [redacted:card] after",
            "[redacted:tail][redacted:card] after",
        ),
    ] {
        assert_eq!(redactor.redact(text), expected);
        assert_eq!(redactor.redact(expected), expected);
    }
}

#[test]
fn a_label_of_no_kind_hides_nothing() {
    let redactor = Redactor::new(&config()).unwrap();
    let secret = &planted()[4].1;
    let masked = redactor
        .redact(&format!("[redacted:{secret}]"))
        .into_owned();
    assert_eq!(masked, "[redacted:[redacted:github-token]]");
}

#[test]
fn all_problems_of_a_configuration_come_at_once() {
    let pattern = |name: &str, pattern: &str| OperatorPattern {
        name: name.to_owned(),
        pattern: pattern.to_owned(),
    };
    let config = RedactionConfig {
        patterns: vec![
            pattern("good", "x+"),
            pattern("open", "("),
            pattern("empty", "x*"),
            pattern("bad name]", "x"),
            pattern("", "x"),
            pattern("huge", "(?:\\w{200}){200}"),
        ],
        secrets: vec![
            ExactSecret {
                name: "tab\t".to_owned(),
                value: "do-not-show-me".to_owned(),
            },
            ExactSecret {
                name: "long".to_owned(),
                value: "do-not-show-me".repeat(10_000),
            },
        ],
    };
    let error = Redactor::new(&config).unwrap_err();
    let names: Vec<&str> = error
        .problems
        .iter()
        .map(|problem| problem.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["open", "empty", "bad name]", "", "huge", "tab\\t", "long"]
    );
    let message = error.to_string();
    assert!(
        message.contains("unclosed group") && !message.contains("do-not-show-me"),
        "{message}"
    );
    assert!(!format!("{config:?}").contains("do-not-show-me"));
}

#[test]
fn short_secrets_are_named_and_nothing_shows_the_others() {
    let mut config = config();
    config.secrets.push(ExactSecret {
        name: "PIN".to_owned(),
        value: "1234".to_owned(),
    });
    let redactor = Redactor::new(&config).unwrap();
    assert_eq!(redactor.unprotected().collect::<Vec<_>>(), ["PIN"]);
    assert_eq!(redactor.redact("1234 is kept"), "1234 is kept");
    let mut stream = redactor.stream();
    stream.push("correct horse batt");
    for shown in [format!("{redactor:?}"), format!("{stream:?}")] {
        assert!(
            !shown.contains("horse") && !shown.contains("[0-9]{4}"),
            "{shown}"
        );
    }
}

/// Whether `text` holds 12 letters in a row of the secret.
fn leaks(text: &str, secret: &str) -> bool {
    let secret: Vec<char> = secret.chars().collect();
    secret
        .windows(12)
        .any(|window| text.contains(&window.iter().collect::<String>()))
}

/// Pieces of text that make trouble next to secrets.
fn filler() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "",
            " ",
            "\n",
            "\\n",
            "\"",
            "'",
            "\\\"",
            "=",
            ": ",
            "key=",
            "password: ",
            "\"token\":\"",
            "Bearer ",
            "Authorization: Bearer ",
            "://",
            "https://user:",
            "@",
            "sk-",
            "sk-ant-",
            "AKIA",
            "gh",
            "ghp_",
            "eyJ",
            ".",
            "-----BEGIN ",
            "-----BEGIN PRIVATE KEY-----",
            "-----END PRIVATE KEY-----",
            "[redacted:",
            "[redacted:jwt]",
            "[redacted:card]",
            "]",
            "correct",
            "correct hor",
            "alphabetag",
            "gamma",
            "%%",
            "customer",
            "1234-5678-",
            "T\u{e9}1",
            "\u{1F600}",
            "\u{e9}",
            "%20",
            "\\u00",
            "secret=",
        ])
        .prop_map(str::to_owned),
        "[a-zA-Z0-9_=+/. -]{0,12}",
        ".{0,6}",
    ]
}

/// A secret, or the beginning of one.
fn secret() -> impl Strategy<Value = String> {
    let mut all: Vec<String> = planted().into_iter().map(|(_, secret)| secret).collect();
    all.push(pem());
    all.extend(
        CONTEXTS
            .iter()
            .map(|(kind, before, secret)| format!("{before}{secret}{}", closing(kind))),
    );
    all.extend(
        [
            "correct horse battery",
            "alphabetagamma",
            "gammadeltaepsilon",
            "1234-5678-9012-3456",
        ]
        .map(str::to_owned),
    );
    (select(all), any::<Index>(), 0..3u8).prop_map(|(secret, cut, how)| {
        let cut = secret.floor_char_boundary(cut.index(secret.len() + 1));
        match how {
            0 => secret[..cut].to_owned(),
            _ => secret,
        }
    })
}

fn text() -> impl Strategy<Value = String> {
    vec(prop_oneof![3 => filler(), 2 => secret()], 0..8).prop_map(|parts| parts.concat())
}

/// Places to cut a text at.
fn cuts() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 0..12)
}

fn stream(redactor: &Redactor, text: &str, cuts: &[Index]) -> String {
    let mut places: Vec<usize> = cuts
        .iter()
        .map(|cut| text.floor_char_boundary(cut.index(text.len() + 1)))
        .collect();
    places.sort_unstable();
    let mut stream = redactor.stream();
    let mut out = String::new();
    let mut from = 0;
    for place in places {
        out += &stream.push(&text[from..place]);
        from = place;
    }
    out += &stream.push(&text[from..]);
    out + &stream.finish()
}

fn stream_by_char(redactor: &Redactor, text: &str) -> String {
    let mut stream = redactor.stream();
    let mut out = String::new();
    for c in text.chars() {
        out += &stream.push(c.encode_utf8(&mut [0; 4]));
    }
    out + &stream.finish()
}

#[test]
fn pieces_make_no_difference() {
    for redactor in [Redactor::built_in(), Redactor::new(&config()).unwrap()] {
        check(CASES, (text(), cuts()), |(text, cuts)| {
            prop_assert_eq!(
                stream(&redactor, &text, &cuts),
                redactor.redact(&text),
                "of {:?}",
                text
            );
            Ok(())
        });
        check(CASES / 10, text(), |text| {
            prop_assert_eq!(
                stream_by_char(&redactor, &text),
                redactor.redact(&text),
                "of {:?}",
                text
            );
            Ok(())
        });
    }
}

#[test]
fn redacting_twice_changes_nothing() {
    for redactor in [Redactor::built_in(), Redactor::new(&config()).unwrap()] {
        check(CASES, text(), |text| {
            let once = redactor.redact(&text);
            let twice = redactor.redact(&once);
            prop_assert_eq!(&twice, &once, "of {:?}", text);
            Ok(())
        });
    }
}

#[test]
fn no_twelve_letters_of_a_secret_get_out() {
    let redactor = Redactor::new(&config()).unwrap();
    let mut secrets: Vec<String> = planted().into_iter().map(|(_, secret)| secret).collect();
    secrets.extend(
        [
            "correct horse battery",
            "alphabetagamma",
            "gammadeltaepsilon",
        ]
        .map(str::to_owned),
    );
    // Before a token there must be something that ends a word; an exact value needs nothing.
    let border = select(vec![" ", "\n", "\\n", "\"", "=", ":", "(", "\u{e9}", "%0A"]);
    let planted = (filler(), border, select(secrets), filler(), cuts());
    check(CASES, planted, |(before, border, secret, after, cuts)| {
        let text = format!("{before}{border}{secret}{after}");
        let out = stream(&redactor, &text, &cuts);
        prop_assert!(!leaks(&out, &secret), "{:?} gave {:?}", text, out);
        Ok(())
    });
}

#[test]
fn json_stays_json_and_clean_json_keeps_its_bytes() {
    let redactor = Redactor::new(&config()).unwrap();
    // Any JSON value with the texts above as keys and values, written with or without escapes and spaces.
    let leaf = prop_oneof![
        text().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
    ];
    let value = leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            vec((text(), inner), 0..4)
                .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
        ]
    });
    check(
        CASES,
        (value, any::<bool>(), any::<bool>()),
        |(value, pretty, ascii)| {
            let mut json = if pretty {
                serde_json::to_string_pretty(&value)
            } else {
                serde_json::to_string(&value)
            }
            .unwrap();
            if ascii {
                json = json
                    .chars()
                    .map(|c| {
                        if c.is_ascii() {
                            c.to_string()
                        } else {
                            escaped(c)
                        }
                    })
                    .collect();
            }
            let masked = redactor.redact_json(&json);
            let parsed: Result<serde_json::Value, _> = serde_json::from_str(&masked);
            prop_assert!(parsed.is_ok(), "{} became {}", json, masked);
            prop_assert_eq!(
                &redactor.redact_json(&masked),
                &masked,
                "twice, of {}",
                json
            );
            Ok(())
        },
    );
}

fn escaped(c: char) -> String {
    c.encode_utf16(&mut [0; 2])
        .iter()
        .map(|unit| format!("\\u{unit:04x}"))
        .collect()
}

#[test]
fn json_is_masked_inside_strings_only() {
    let redactor = Redactor::new(&RedactionConfig {
        patterns: vec![OperatorPattern {
            name: "number".to_owned(),
            pattern: "41[0-9]{6}|a.*z".to_owned(),
        }],
        secrets: vec![ExactSecret {
            name: "K".to_owned(),
            value: "quo\"ted secret".to_owned(),
        }],
    })
    .unwrap();
    let key = &planted()[0].1;
    let escaped_key: String = key
        .chars()
        .map(|c| format!("\\u{:04x}", u32::from(c)))
        .collect();
    for (json, expected) in [
        (
            format!("{{\"a\": \"{key}\" }}"),
            "{\"a\": \"[redacted:anthropic-key]\" }".to_owned(),
        ),
        (
            format!("[\"\\u0041 {escaped_key}\\n\"]"),
            "[\"A [redacted:anthropic-key]\\n\"]".to_owned(),
        ),
        (
            format!("[\"\\n{key}\\t\"]"),
            "[\"\\n[redacted:anthropic-key]\\t\"]".to_owned(),
        ),
        (
            "{\"password\":\"q7Vw2Lm9Xc4Rt8\"}".to_owned(),
            "{\"password\":\"[redacted:assignment]\"}".to_owned(),
        ),
        (
            "[41123456, 1]".to_owned(),
            "[\"[redacted:number]\", 1]".to_owned(),
        ),
        (
            "[-41123456e5]".to_owned(),
            "[\"[redacted:number]\"]".to_owned(),
        ),
        (
            "[\"xa\",1,\"zx\"]".to_owned(),
            "[\"x[redacted:number]\",\"[redacted:number]\",\"[redacted:number]x\"]".to_owned(),
        ),
        (
            "[\"quo\\\"ted secret\"]".to_owned(),
            "[\"[redacted:K]\"]".to_owned(),
        ),
        (
            "[\"quo\\u0022ted secret\"]".to_owned(),
            "[\"[redacted:K]\"]".to_owned(),
        ),
        (
            "{\"signature\":\"EqQB\\u002fx7Kq2Lm9Vc4Rt8Yb==\"}".to_owned(),
            "{\"signature\":\"EqQB\\u002fx7Kq2Lm9Vc4Rt8Yb==\"}".to_owned(),
        ),
    ] {
        assert_eq!(redactor.redact_json(&json), expected, "{json}");
    }
    for broken in [
        "\"",
        "\"\\",
        "{\"a\": \"sk",
        "[\"\\u00",
        "\\",
        "{\"a\\",
        "\"\u{e9}\\\u{e9}",
    ] {
        let _ = redactor.redact_json(broken);
    }
}

#[test]
fn little_is_held_back() {
    let redactor = Redactor::new(&config()).unwrap();
    let mut stream = redactor.stream();
    // Prose passes but for the first letters of what could be a key.
    let prose =
        "The quick brown fox jumps over the lazy dog, and then it sleeps in the sun. ".repeat(50);
    let mut shown = String::new();
    for (at, c) in prose.char_indices() {
        shown += &stream.push(c.encode_utf8(&mut [0; 4]));
        assert!(
            at + 1 - shown.len() <= 12,
            "held back: {:?}",
            &prose[shown.len()..=at]
        );
    }
    assert_eq!(shown + &stream.finish(), prose);

    // A pattern that can match a whole line holds a line, and no more than the bound.
    let mut stream = redactor.stream();
    stream.push("x %% ");
    for _ in 0..300 {
        stream.push(&"y".repeat(1_000));
        assert!(
            stream.held_bytes() <= MAX_HELD_BYTES + 1_000,
            "{}",
            stream.held_bytes()
        );
    }
}

#[test]
fn long_lines_are_searched_in_pieces_the_same_way() {
    let redactor = Redactor::new(&config()).unwrap();
    let mut text = "%%".repeat(10);
    text += &"z".repeat(MAX_LINE_PIECE_BYTES - 25);
    text += "1234-5678-9012-3456 \u{e9}\u{e9}\u{e9} ";
    text += &"\u{e9}".repeat(MAX_LINE_PIECE_BYTES);
    text += " %% end\nnext 1234-5678-9012-3456 %% x\n";
    let whole = redactor.redact(&text);
    for size in [1_000, 7_777, 65_536, 65_537] {
        let mut stream = redactor.stream();
        let mut out = String::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(size));
            out += &stream.push(piece);
            rest = after;
        }
        assert_eq!(out + &stream.finish(), whole, "in pieces of {size}");
    }
}
