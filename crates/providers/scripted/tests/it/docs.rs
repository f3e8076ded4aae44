//! The reference for authors says what is true.

use otto_scripted::Script;

const REFERENCE: &str = include_str!("../../../../../docs/scripted-model.md");

#[test]
fn every_example_of_the_reference_is_a_script() {
    let examples: Vec<&str> = REFERENCE
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(examples.len() >= 4);
    for example in examples {
        let parsed = Script::parse(example, "scripted-model.md");
        assert!(parsed.is_ok(), "{example}\n{}", parsed.unwrap_err());
    }
}

#[test]
fn every_filter_is_in_the_reference() {
    // The message for an unknown filter lists them all.
    let errors = Script::parse("turns: [{ text: '{{ task | qqqqqqqqqq }}' }]", "x")
        .unwrap_err()
        .to_string();
    let filters = errors.split("the filters are ").nth(1).unwrap();
    for filter in filters.split(", ") {
        let named = REFERENCE.contains(&format!("`{filter}`"))
            || REFERENCE.contains(&format!("`{filter} "));
        assert!(named, "`{filter}` is not in the reference");
    }
}
