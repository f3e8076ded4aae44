//! Prints the configuration reference, for `cargo xtask docs`.

#![expect(clippy::print_stdout, reason = "that is what it is for")]

fn main() {
    print!("{}", otto::config::reference());
}
