//! Constant expressions (PTX ISA, "Constant Expressions"), computed where they stand.

use super::lexer::Kind;
use super::parser::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn constant(&mut self) -> Parsed<i64> {
        self.nested(|p| {
            let condition = p.binary(0)?;
            if !p.accept('?') {
                return Ok(condition);
            }
            let yes = p.constant()?;
            p.expect(':')?;
            let no = p.constant()?;
            Ok(if condition != 0 { yes } else { no })
        })
    }

    fn binary(&mut self, level: u8) -> Parsed<i64> {
        let mut left = self.unary()?;
        while let Some((operator, precedence, width)) = self.operator() {
            if precedence < level {
                break;
            }
            (0..width).for_each(|_| self.advance());
            let right = self.nested(|p| p.binary(precedence + 1))?;
            left = match fold(operator, left, right) {
                Some(value) => value,
                None => return self.error("division by zero in a constant expression"),
            };
        }
        Ok(left)
    }

    /// The binary operator at the cursor, its precedence and how many tokens it takes.
    fn operator(&self) -> Option<(&'static str, u8, usize)> {
        let Kind::Punct(first) = self.kind() else { return None };
        let second = if let Kind::Punct(c) = self.kind_after(1) { c } else { ' ' };
        Some(match (first, second) {
            ('|', '|') => ("||", 1, 2),
            ('&', '&') => ("&&", 2, 2),
            ('=', '=') => ("==", 6, 2),
            ('!', '=') => ("!=", 6, 2),
            ('<', '<') => ("<<", 8, 2),
            ('>', '>') => (">>", 8, 2),
            ('<', '=') => ("<=", 7, 2),
            ('>', '=') => (">=", 7, 2),
            ('|', _) => ("|", 3, 1),
            ('^', _) => ("^", 4, 1),
            ('&', _) => ("&", 5, 1),
            ('<', _) => ("<", 7, 1),
            ('>', _) => (">", 7, 1),
            ('+', _) => ("+", 9, 1),
            ('-', _) => ("-", 9, 1),
            ('*', _) => ("*", 10, 1),
            ('/', _) => ("/", 10, 1),
            ('%', _) => ("%", 10, 1),
            _ => return None,
        })
    }

    pub(super) fn unary(&mut self) -> Parsed<i64> {
        match self.kind() {
            Kind::Int(value) => {
                self.advance();
                Ok(value as i64)
            }
            Kind::Punct(c @ ('-' | '~' | '!' | '+')) => {
                self.advance();
                let value = self.nested(Self::unary)?;
                Ok(match c {
                    '-' => value.wrapping_neg(),
                    '~' => !value,
                    '!' => i64::from(value == 0),
                    _ => value,
                })
            }
            Kind::Punct('(') => {
                self.advance();
                // `(.s64)` casts do not change the 64 bits that are folded here.
                if matches!(self.kind(), Kind::Word(".s64" | ".u64")) {
                    self.advance();
                    self.expect(')')?;
                    return self.nested(Self::unary);
                }
                let value = self.constant()?;
                self.expect(')')?;
                Ok(value)
            }
            _ => self.expected("an operand"),
        }
    }
}

fn fold(operator: &str, a: i64, b: i64) -> Option<i64> {
    Some(match operator {
        "+" => a.wrapping_add(b),
        "-" => a.wrapping_sub(b),
        "*" => a.wrapping_mul(b),
        "/" => a.checked_div(b)?,
        "%" => a.checked_rem(b)?,
        "<<" => a.wrapping_shl(b as u32),
        ">>" => a.wrapping_shr(b as u32),
        "&" => a & b,
        "|" => a | b,
        "^" => a ^ b,
        "&&" => i64::from(a != 0 && b != 0),
        "||" => i64::from(a != 0 || b != 0),
        "==" => i64::from(a == b),
        "!=" => i64::from(a != b),
        "<" => i64::from(a < b),
        ">" => i64::from(a > b),
        "<=" => i64::from(a <= b),
        _ => i64::from(a >= b),
    })
}
