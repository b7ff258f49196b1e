//! Lists of tables: the original's are regular expressions, ours patterns with `*` and `?`.
//!
//! Guarantee: a pattern means what the expression means, or there is none and the reason instead; nothing is captured that wasn't, and nothing left
//! out, without a word. (The original compares without regard to case, and takes an unescaped dot for any letter; the first such dot is
//! the one between schema and table, as everybody writes it.)

/// Patterns for a list of expressions with commas between them.
///
/// # Errors
/// Why one has no pattern.
pub(super) fn patterns(list: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for one in split(list) {
        for expression in alternatives(one.trim())? {
            all.push(pattern(&expression)?);
        }
    }
    Ok(all)
}

/// The same for names of schemas or databases.
pub(super) fn names(list: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for one in split(list) {
        for expression in alternatives(one.trim())? {
            all.push(parts(&expression)?.join("?"));
        }
    }
    Ok(all)
}

/// At commas outside of brackets, which quantifiers such as `{1,2}` have.
fn split(list: &str) -> Vec<&str> {
    let (mut depth, mut from, mut all) = (0_u32, 0, Vec::new());
    for (at, letter) in list.char_indices() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                all.extend(list.get(from..at));
                from = at + 1;
            }
            _ => {}
        }
    }
    all.extend(list.get(from..));
    all.retain(|one| !one.trim().is_empty());
    all
}

/// `public.(a|b)` is two expressions. One group is understood, with or without alternatives.
fn alternatives(expression: &str) -> Result<Vec<String>, String> {
    let expression = expression.strip_prefix('^').unwrap_or(expression);
    let expression = match expression.strip_suffix('$') {
        Some(rest) if !rest.ends_with('\\') => rest,
        _ => expression,
    };
    let unclear = || Err(format!("`{expression}` has more groups than a pattern can say"));
    let Some((before, rest)) = expression.split_once('(') else {
        // alternatives of whole expressions
        return Ok(expression.split('|').map(str::to_owned).collect());
    };
    let Some((group, after)) = rest.split_once(')') else { return unclear() };
    if group.contains('(') || before.ends_with('\\') || before.contains('|') || after.contains('|') {
        return unclear();
    }
    if after.starts_with(['*', '+', '?', '{']) {
        return unclear();
    }
    let group = group.strip_prefix("?:").unwrap_or(group);
    let mut all = Vec::new();
    for one in group.split('|') {
        all.extend(alternatives(&format!("{before}{one}{after}"))?);
    }
    Ok(all)
}

/// The pattern of one expression without groups.
fn pattern(expression: &str) -> Result<String, String> {
    let parts = parts(expression)?;
    let (first, rest) = match parts.as_slice() {
        [] => return Err("an empty name".to_owned()),
        // `.*orders` reaches over the dot
        [only] if only == "*" => return Ok("*.*".to_owned()),
        [only] if only.starts_with('*') => return Ok(format!("*.{only}")),
        [only] if only.ends_with('*') => return Ok(format!("{only}.*")),
        [only] => return Err(format!("`{only}` names no schema or database")),
        [first, rest @ ..] => (first, rest),
    };
    // further dots were meant as any letter, or as one that belongs to the name: a pattern's `?` is both
    Ok(format!("{first}.{}", rest.join("?")))
}

/// What stands between dots.
fn parts(expression: &str) -> Result<Vec<String>, String> {
    let mut all = vec![String::new()];
    let mut letters = expression.chars().peekable();
    let push = |all: &mut Vec<String>, text: char| {
        if let Some(last) = all.last_mut() {
            last.push(text);
        }
    };
    while let Some(letter) = letters.next() {
        match letter {
            '.' if letters.next_if_eq(&'*').is_some() => push(&mut all, '*'),
            '.' if letters.next_if_eq(&'+').is_some() => {
                push(&mut all, '?');
                push(&mut all, '*');
            }
            '.' => all.push(String::new()),
            '\\' => match letters.next() {
                Some('.') => all.push(String::new()),
                Some(escaped) if !escaped.is_alphanumeric() => push(&mut all, escaped),
                Some(class) => return Err(format!("`{expression}` has `\\{class}`, which a pattern can't say")),
                None => return Err(format!("`{expression}` ends in a backslash")),
            },
            '[' | ']' | '{' | '}' | '*' | '+' | '?' | '|' | '^' | '(' | ')' => {
                return Err(format!("`{expression}` has `{letter}`, which a pattern can't say"));
            }
            plain => push(&mut all, plain),
        }
    }
    Ok(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(list: &str) -> Vec<String> {
        patterns(list).unwrap()
    }

    #[test]
    fn expressions_that_people_write_become_patterns() {
        assert_eq!(of("inventory.customers,inventory.orders"), ["inventory.customers", "inventory.orders"]);
        assert_eq!(of("public\\.orders, public\\.items"), ["public.orders", "public.items"]);
        assert_eq!(of("public.*"), ["public*.*"]);
        assert_eq!(of("public\\..*,audit..*"), ["public.*", "audit.*"]);
        assert_eq!(of(".*"), ["*.*"]);
        assert_eq!(of("(.*).orders"), ["*.orders"]);
        assert_eq!(of(".*orders"), ["*.*orders"]);
        assert_eq!(of("public.(orders|items)_v2"), ["public.orders_v2", "public.items_v2"]);
        assert_eq!(of("^public\\.orders$"), ["public.orders"]);
        assert_eq!(of("db.a|db.b"), ["db.a", "db.b"]);
        assert_eq!(of("public.cost\\$"), ["public.cost$"]);
        assert_eq!(names("public,app_.*").unwrap(), ["public", "app_*"]);
    }

    #[test]
    fn what_a_pattern_cannot_say_is_refused() {
        for list in [
            "public.t[0-9]+",
            "public.\\w+",
            "public.(a|b)(c|d|(e))",
            "orders",
            "public.a?",
            "public.(ab)+",
            "db.t{1,2}",
        ] {
            assert!(patterns(list).is_err(), "{list}");
        }
    }
}
