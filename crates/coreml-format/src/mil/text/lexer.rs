//! MIL text as a sequence of tokens.

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// A name, a keyword, or a number as it is written.
    Word(&'a str),
    /// The content of a string, unescaped.
    Text(String),
    /// One of `( ) [ ] { } < > , ; = ?`.
    Mark(char),
    /// `->`.
    Arrow,
}

/// Splits a text, one token at a time.
pub(super) struct Lexer<'a> {
    rest: &'a str,
    /// Lines before `rest`.
    line: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Lexer<'a> {
        Lexer { rest: text, line: 1 }
    }

    /// The line of the next token, from 1.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// The next token; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Token<'a>>, String> {
        self.skip_space();
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        if self.rest.starts_with("->") {
            self.rest = &self.rest[2..];
            return Ok(Some(Token::Arrow));
        }
        match first {
            '"' => self.string().map(|text| Some(Token::Text(text))),
            '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | ',' | ';' | '=' | '?' => {
                self.rest = &self.rest[1..];
                Ok(Some(Token::Mark(first)))
            }
            _ => {
                let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+' | '@' | '/' | ':');
                let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
                if end == 0 {
                    return Err(format!("the character {first:?} is not expected"));
                }
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                Ok(Some(Token::Word(word)))
            }
        }
    }

    fn skip_space(&mut self) {
        loop {
            let trimmed = self.rest.trim_start();
            self.line += self.rest[..self.rest.len() - trimmed.len()].matches('\n').count();
            self.rest = trimmed;
            let Some(comment) = trimmed.strip_prefix("//") else { return };
            self.rest = comment.find('\n').map_or("", |end| &comment[end..]);
        }
    }

    /// A string, whose first quote comes next.
    fn string(&mut self) -> Result<String, String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.line += self.rest[..at].matches('\n').count();
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, escaped @ ('"' | '\\' | '\''))) => text.push(escaped),
                    Some((_, other)) => return Err(format!("the escape \\{other} is not known")),
                    None => break,
                },
                other => text.push(other),
            }
        }
        Err("a string does not end".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let (mut lexer, mut shown) = (Lexer::new(text), Vec::new());
        loop {
            match lexer.next() {
                Ok(Some(Token::Word(word))) => shown.push(word.to_owned()),
                Ok(Some(Token::Text(text))) => shown.push(format!("{text:?}")),
                Ok(Some(Token::Mark(mark))) => shown.push(mark.to_string()),
                Ok(Some(Token::Arrow)) => shown.push("->".to_owned()),
                Ok(None) => break,
                Err(error) => {
                    shown.push(format!("line {}: {error}", lexer.line()));
                    break;
                }
            }
        }
        assert_eq!(shown.join(" "), expected);
    }

    #[test]
    fn tokens() {
        check("program(1.0) // MIL\n{}", "program ( 1.0 ) { }");
        check("fp16(-0x1.8p-3)", "fp16 ( -0x1.8p-3 )");
        check("} -> (y);", "} -> ( y ) ;");
        check(r#"string("a \"b\" \\")"#, r#"string ( "a \"b\" \\" )"#);
        check("tensor<fp16, [1, ?]> x_1", "tensor < fp16 , [ 1 , ? ] > x_1");
        check("\n\n#", "line 3: the character '#' is not expected");
        check("\n\"a", "line 2: a string does not end");
    }
}
