//! Texts in Rust source: the literals, with the code between them.

/// The string literals of the code, each with the code since the one before.
pub fn literals(code: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let (mut text, mut before) = (String::new(), String::new());
    let (mut inside, mut escaped) = (false, false);
    for line in code.lines().filter(|l| !l.trim_start().starts_with("//")) {
        for c in line.chars().chain(['\n']) {
            match (inside, c) {
                (true, _) if escaped => {
                    text.push(c);
                    escaped = false;
                }
                (true, '\\') => escaped = true,
                (true, '"') => {
                    all.push((std::mem::take(&mut text), std::mem::take(&mut before)));
                    inside = false;
                }
                (true, _) => text.push(c),
                (false, '"') => inside = true,
                (false, _) => before.push(c),
            }
        }
    }
    all
}

/// Only a comma, and perhaps a format, stands between a reason and its sentence.
pub fn is_next(code: &str) -> bool {
    let code: String = code.split_whitespace().collect();
    [",", ",format!(", ",&format!("].contains(&code.as_str())
}

/// A text for people.
pub fn is_sentence(text: &str) -> bool {
    text.contains(' ') && text.len() > 12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_stand_with_the_code_before_them() {
        let all = literals("a(\"x\", // \"no\"\n    b, \"y \\\"z\\\"\")");
        let all: Vec<_> = all.iter().map(|(t, c)| (t.as_str(), c.trim())).collect();
        assert_eq!(all[0], ("x", "a("));
    }
}
