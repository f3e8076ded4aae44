//! The configuration reference says what the tables of fields say.

#[test]
fn the_configuration_reference_is_up_to_date() {
    let page = include_str!("../../../../docs/configuration-reference.md");
    assert!(
        page == otto::config::reference(),
        "docs/configuration-reference.md is stale: `cargo xtask docs` writes it"
    );
}
