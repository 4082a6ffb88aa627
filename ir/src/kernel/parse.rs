//! Text → kernel.
//!
//! ```text
//! kernel   = "kernel" name string "{" declaration* "grid" [name {"," name}] statement* "}"
//! declaration = ("read" | "write" | "update" | "local") name ":" storage "[" count "]" ["below" int]
//!          | "scalar" name | "var" name ":" extent "/" tile
//! statement = value ":" type "=" expression
//!          | "store" name "[" offset "]" ("=" | "+=") value ["where" value]
//!          | "when" value
//!          | "loop" name ["carry" "(" carry {"," carry} ")"] "{" statement* ["next" values] "}"
//! carry    = value ":" type "=" value "->" value        argument, its type, first value, result
//! expression = int | real | "true" | "false" | "index" offset
//!          | "load" name "[" offset "]" ["where" value] | pointwise value {"," value}
//!          | "reduce" ("sum" | "max") value "along" name | "dot" value "," value "along" name
//!          | "noise" key "(" value {"," value} ")"
//! type     = ("f32" | "i32" | "bool") ["[" name {"," name} "]"]
//! offset   = ["-"] term {("+" | "-") term};  term = [number "*"] factor | number
//! factor   = variable ["/" number] ["%" number] | scalar | value
//! ```
//! White space separates tokens and means nothing else; `;` starts a comment. Values are numbered
//! densely from `%0`, in any order.

use std::cell::RefCell;
use std::collections::BTreeMap;

use nom::Parser;
use nom::branch::alt;
use nom::character::complete::{char, digit1};
use nom::combinator::{cut, map, opt, value as constant};
use nom::multi::{many0, separated_list0, separated_list1};
use nom::sequence::{delimited, preceded};

use super::{
    Access, Buffer, BufferId, Carry, Expr, Factor, Kernel, Offset, Reduction, Scalar, Stmt,
    Storage, Term, TileId, TileType, Var, VarId,
};
use crate::pointwise::Pointwise;
use crate::text::{self, Fault, ParseError, Parsed, blank, expected, fatal};
use crate::text::{integer as number, string, word as name};

impl Kernel {
    /// Reads one kernel. The result is well formed as a text only: see [`Kernel::verify`].
    ///
    /// # Errors
    /// The first place that does not follow the grammar or names something undeclared.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        match kernel(text) {
            Ok((rest, kernel)) => match blank(rest) {
                "" => Ok(kernel),
                rest => {
                    let message = "expected the end of the text".to_owned();
                    Err(ParseError::locate(text, rest, message))
                }
            },
            Err(nom::Err::Error(f) | nom::Err::Failure(f)) => {
                Err(ParseError::locate(text, f.rest, f.message))
            }
            Err(nom::Err::Incomplete(_)) => {
                panic!("the complete parsers of nom never ask for more")
            }
        }
    }
}

fn symbol<'a>(mark: &'static str) -> impl Parser<&'a str, Output = (), Error = Fault<'a>> {
    move |rest: &'a str| text::symbol(rest, mark)
}

fn keyword<'a>(word: &'static str) -> impl Parser<&'a str, Output = (), Error = Fault<'a>> {
    move |text: &'a str| match name(text) {
        Ok((rest, found)) if found == word => Ok((rest, ())),
        _ => expected(blank(text), format!("`{word}`")),
    }
}

/// One of several words, as what it stands for.
fn choice<'a, T: Copy>(
    what: &'static str,
    words: impl IntoIterator<Item = (&'static str, T)> + Clone,
) -> impl Parser<&'a str, Output = T, Error = Fault<'a>> {
    move |text: &'a str| {
        let found = name(text).ok().and_then(|(rest, word)| {
            let hit = words.clone().into_iter().find(|(known, _)| *known == word);
            hit.map(|(_, meaning)| (rest, meaning))
        });
        found.map_or_else(|| expected(blank(text), what), Ok)
    }
}

/// A constant: an int, a truth value, or a real, which has a point, an exponent or is `inf` or
/// `NaN`.
fn literal(text: &str) -> Parsed<'_, Expr> {
    let text = blank(text);
    let inside = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let end = text.find(|c| !inside(c)).unwrap_or(text.len());
    let (token, rest) = text.split_at(end);
    if let Ok(int) = token.parse() {
        return Ok((rest, Expr::Int(int)));
    }
    if let Ok(truth) = token.parse() {
        return Ok((rest, Expr::Bool(truth)));
    }
    match token.parse() {
        Ok(real) if token.contains(|c: char| !c.is_ascii_digit()) => Ok((rest, Expr::Real(real))),
        _ => expected(text, "a constant"),
    }
}

fn tile(text: &str) -> Parsed<'_, TileId> {
    match preceded(char::<&str, Fault<'_>>('%'), digit1).parse(blank(text)) {
        Ok((rest, digits)) => match digits.parse() {
            Ok(id) => Ok((rest, TileId(id))),
            Err(_) => fatal(blank(text), "this value number is out of range"),
        },
        Err(_) => expected(blank(text), "a value such as `%3`"),
    }
}

fn tiles(text: &str) -> Parsed<'_, Vec<TileId>> {
    separated_list1(symbol(","), tile).parse(text)
}

fn kernel(text: &str) -> Parsed<'_, Kernel> {
    let (text, _) = keyword("kernel").parse(text)?;
    let (text, title) = name(text)?;
    let (text, origin) = string(text)?;
    let (text, _) = symbol("{").parse(text)?;
    let (text, declarations) = many0(declaration).parse(text)?;
    let mut kernel = Kernel {
        name: title.to_owned(),
        origin,
        buffers: Vec::new(),
        scalars: Vec::new(),
        vars: Vec::new(),
        grid: Vec::new(),
        values: Vec::new(),
        body: Vec::new(),
    };
    for declaration in declarations {
        match declaration {
            Declaration::Buffer(buffer) => kernel.buffers.push(buffer),
            Declaration::Scalar(scalar) => kernel.scalars.push(scalar),
            Declaration::Var(var) => kernel.vars.push(var),
        }
    }
    let scope = Scope { kernel: &kernel, types: RefCell::default() };
    let (text, _) = keyword("grid").parse(text)?;
    // A grid of no variables is followed by a statement, whose first word is no variable.
    let (text, grid) = separated_list0(symbol(","), |t| scope.declared_var(t)).parse(text)?;
    let (text, body) = scope.block(text)?;
    let (rest, _) = symbol("}").parse(text)?;
    let types = scope.types.into_inner();
    let values = types.len();
    if types.keys().copied().ne((0..).take(values)) {
        return fatal(blank(text), format!("{values} values must be numbered %0 to %{values}-1"));
    }
    (kernel.values, kernel.grid, kernel.body) = (types.into_values().collect(), grid, body);
    Ok((rest, kernel))
}

enum Declaration {
    Buffer(Buffer),
    Scalar(String),
    Var(Var),
}

fn declaration(text: &str) -> Parsed<'_, Declaration> {
    alt((
        map(preceded(keyword("scalar"), cut(name)), |name| Declaration::Scalar(name.to_owned())),
        map(preceded(keyword("var"), cut(var)), Declaration::Var),
        map(buffer, Declaration::Buffer),
    ))
    .parse(text)
}

fn var(text: &str) -> Parsed<'_, Var> {
    let (text, name) = name(text)?;
    let (text, _) = symbol(":").parse(text)?;
    let (text, extent) = number(text)?;
    let (text, _) = symbol("/").parse(text)?;
    let (text, tile) = number(text)?;
    Ok((text, Var { name: name.to_owned(), extent, tile }))
}

fn buffer(text: &str) -> Parsed<'_, Buffer> {
    let accesses = [Access::Read, Access::Write, Access::ReadWrite, Access::Local];
    let storages = [Storage::F32, Storage::Bf16, Storage::I32, Storage::Bool];
    let (text, access) = choice("a declaration", accesses.map(|a| (a.name(), a))).parse(text)?;
    let (text, name) = name(text)?;
    let (text, _) = symbol(":").parse(text)?;
    let (text, storage) = choice("a storage type", storages.map(|s| (s.name(), s))).parse(text)?;
    let (text, elements) = delimited(symbol("["), number, symbol("]")).parse(text)?;
    let (text, below) = opt(preceded(keyword("below"), cut(number))).parse(text)?;
    Ok((text, Buffer { name: name.to_owned(), storage, elements, access, below }))
}

/// What statements refer to: the declarations, and the types of the values met so far.
struct Scope<'k> {
    kernel: &'k Kernel,
    types: RefCell<BTreeMap<u32, TileType>>,
}

impl Scope<'_> {
    fn block<'a>(&self, text: &'a str) -> Parsed<'a, Vec<Stmt>> {
        many0(|t| self.stmt(t)).parse(text)
    }

    fn stmt<'a>(&self, text: &'a str) -> Parsed<'a, Stmt> {
        let when = map(preceded(keyword("when"), cut(tile)), Stmt::When);
        alt((|t| self.binding(t), |t| self.looped(t), |t| self.store(t), when)).parse(text)
    }

    /// Records a definition.
    fn define<'a>(&self, at: &'a str, value: TileId, ty: TileType) -> Parsed<'a, ()> {
        match self.types.borrow_mut().insert(value.0, ty) {
            None => Ok((at, ())),
            Some(_) => fatal(at, format!("{value} is defined a second time")),
        }
    }

    fn binding<'a>(&self, text: &'a str) -> Parsed<'a, Stmt> {
        let start = blank(text);
        let (text, value) = tile(text)?;
        let (text, ty) = self.after(text, |text| {
            let (text, ty) = preceded(symbol(":"), |t| self.ty(t)).parse(text)?;
            let (text, _) = symbol("=").parse(text)?;
            Ok((text, ty))
        })?;
        self.define(start, value, ty)?;
        let (text, expr) = self.after(text, |text| self.expr(text))?;
        Ok((text, Stmt::Let(value, expr)))
    }

    /// Parses what must follow: a failure is final.
    fn after<'a, T>(
        &self,
        text: &'a str,
        parser: impl Fn(&'a str) -> Parsed<'a, T>,
    ) -> Parsed<'a, T> {
        cut(parser).parse(text)
    }

    fn store<'a>(&self, text: &'a str) -> Parsed<'a, Stmt> {
        let (text, _) = keyword("store").parse(text)?;
        self.after(text, |text| {
            let (text, (buffer, offset)) = self.place(text)?;
            let (text, accumulate) =
                alt((constant(true, symbol("+=")), constant(false, symbol("=")))).parse(text)?;
            let (text, value) = tile(text)?;
            let (text, mask) = opt(preceded(keyword("where"), tile)).parse(text)?;
            Ok((text, Stmt::Store { buffer, offset, value, mask, accumulate }))
        })
    }

    fn looped<'a>(&self, text: &'a str) -> Parsed<'a, Stmt> {
        let (text, _) = keyword("loop").parse(text)?;
        self.after(text, |text| {
            let (text, var) = self.var(text)?;
            let carries = separated_list1(symbol(","), |t| self.carry(t));
            let (text, carried) =
                opt(preceded(keyword("carry"), delimited(symbol("("), carries, symbol(")"))))
                    .parse(text)?;
            let mut carried = carried.unwrap_or_default();
            let (text, body) = preceded(symbol("{"), |t| self.block(t)).parse(text)?;
            let at = blank(text);
            let (text, next) = opt(preceded(keyword("next"), tiles)).parse(text)?;
            let next = next.unwrap_or_default();
            if next.len() != carried.len() {
                return fatal(at, format!("expected `next` with {} values", carried.len()));
            }
            carried.iter_mut().zip(next).for_each(|(carry, next)| carry.next = next);
            let (text, _) = symbol("}").parse(text)?;
            Ok((text, Stmt::Loop { var, carried, body }))
        })
    }

    /// A carry without its `next`, which stands at the end of the loop.
    fn carry<'a>(&self, text: &'a str) -> Parsed<'a, Carry> {
        let start = blank(text);
        let (text, arg) = tile(text)?;
        let (text, ty) = preceded(symbol(":"), |t| self.ty(t)).parse(text)?;
        let (text, init) = preceded(symbol("="), tile).parse(text)?;
        let (text, result) = preceded(symbol("->"), tile).parse(text)?;
        self.define(start, arg, ty.clone())?;
        self.define(start, result, ty)?;
        Ok((text, Carry { init, arg, next: arg, result }))
    }

    fn ty<'a>(&self, text: &'a str) -> Parsed<'a, TileType> {
        let scalars = [Scalar::F32, Scalar::I32, Scalar::Bool];
        let (text, scalar) = choice("a type", scalars.map(|s| (s.name(), s))).parse(text)?;
        let vars = separated_list1(symbol(","), |t| self.var(t));
        let (text, vars) = opt(delimited(symbol("["), vars, symbol("]"))).parse(text)?;
        Ok((text, TileType { scalar, vars: vars.unwrap_or_default() }))
    }

    fn expr<'a>(&self, text: &'a str) -> Parsed<'a, Expr> {
        let start = blank(text);
        if let Ok(constant) = literal(text) {
            return Ok(constant);
        }
        let (text, word) = name(text)?;
        match word {
            "index" => map(|t| self.offset(t), Expr::Index).parse(text),
            "load" => self.load(text),
            "reduce" => self.reduce(text),
            "dot" => self.dot(text),
            "noise" => {
                let (text, key) = number(text)?;
                let (text, counter) = delimited(symbol("("), tiles, symbol(")")).parse(text)?;
                Ok((text, Expr::Noise { key, counter }))
            }
            word => match Pointwise::parse(word) {
                Some(op) => map(tiles, |operands| Expr::Pointwise(op, operands)).parse(text),
                None => fatal(start, format!("`{word}` is no operation")),
            },
        }
    }

    fn load<'a>(&self, text: &'a str) -> Parsed<'a, Expr> {
        let (text, (buffer, offset)) = self.place(text)?;
        let (text, mask) = opt(preceded(keyword("where"), tile)).parse(text)?;
        Ok((text, Expr::Load { buffer, offset, mask }))
    }

    fn reduce<'a>(&self, text: &'a str) -> Parsed<'a, Expr> {
        let reductions = [Reduction::Sum, Reduction::Max];
        let (text, reduction) =
            choice("`sum` or `max`", reductions.map(|r| (r.name(), r))).parse(text)?;
        let (text, value) = tile(text)?;
        let (text, var) = preceded(keyword("along"), |t| self.var(t)).parse(text)?;
        Ok((text, Expr::Reduce(reduction, value, var)))
    }

    fn dot<'a>(&self, text: &'a str) -> Parsed<'a, Expr> {
        let (text, a) = tile(text)?;
        let (text, b) = preceded(symbol(","), tile).parse(text)?;
        let (text, var) = preceded(keyword("along"), |t| self.var(t)).parse(text)?;
        Ok((text, Expr::Dot(a, b, var)))
    }

    fn place<'a>(&self, text: &'a str) -> Parsed<'a, (BufferId, Offset)> {
        let start = blank(text);
        let (text, word) = name(text)?;
        let Some(buffer) = position(&self.kernel.buffers, |b| b.name == word) else {
            return fatal(start, format!("`{word}` is no buffer"));
        };
        let (text, offset) = delimited(symbol("["), |t| self.offset(t), symbol("]")).parse(text)?;
        Ok((text, (BufferId(buffer), offset)))
    }

    fn var<'a>(&self, text: &'a str) -> Parsed<'a, VarId> {
        match self.declared_var(text) {
            Err(nom::Err::Error(fault)) => Err(nom::Err::Failure(fault)),
            parsed => parsed,
        }
    }

    fn declared_var<'a>(&self, text: &'a str) -> Parsed<'a, VarId> {
        let (rest, word) = name(text)?;
        match position(&self.kernel.vars, |v| v.name == word) {
            Some(var) => Ok((rest, VarId(var))),
            None => expected(blank(text), format!("a variable, found `{word}`")),
        }
    }

    fn offset<'a>(&self, text: &'a str) -> Parsed<'a, Offset> {
        let mut offset = Offset::default();
        let (mut text, mut negative) = map(opt(symbol("-")), |s| s.is_some()).parse(text)?;
        loop {
            let (rest, (magnitude, factor)) = self.term(text)?;
            let signed = if negative { -magnitude } else { magnitude };
            let Ok(coefficient) = i64::try_from(signed) else {
                return fatal(blank(text), "this coefficient is out of range");
            };
            match factor {
                Some(factor) => offset.terms.push(Term { coefficient, factor }),
                None => offset.constant = offset.constant.wrapping_add(coefficient),
            }
            let (rest, sign) =
                opt(alt((constant(true, symbol("-")), constant(false, symbol("+")))))
                    .parse(rest)?;
            match sign {
                Some(sign) => (text, negative) = (rest, sign),
                None => return Ok((rest, offset)),
            }
        }
    }

    /// Magnitude and factor; a bare number is a constant.
    fn term<'a>(&self, text: &'a str) -> Parsed<'a, (i128, Option<Factor>)> {
        let (text, magnitude) = opt(number::<u64>).parse(text)?;
        match magnitude {
            None => map(|t| self.factor(t), |factor| (1, Some(factor))).parse(text),
            Some(magnitude) => map(opt(preceded(symbol("*"), |t| self.factor(t))), |factor| {
                (i128::from(magnitude), factor)
            })
            .parse(text),
        }
    }

    fn factor<'a>(&self, text: &'a str) -> Parsed<'a, Factor> {
        if let Ok((rest, tile)) = tile(text) {
            return Ok((rest, Factor::Tile(tile)));
        }
        let (rest, word) = name(text)?;
        if let Some(var) = position(&self.kernel.vars, |v| v.name == word) {
            // No space before `/` and `%`: a new line may begin with a value such as `%3`.
            let (rest, divisor) = opt(preceded(char('/'), number)).parse(rest)?;
            let (rest, modulus) = opt(preceded(char('%'), number)).parse(rest)?;
            let (divisor, modulus) = (divisor.unwrap_or(1), modulus.unwrap_or(0));
            return Ok((rest, Factor::Digit { var: VarId(var), divisor, modulus }));
        }
        match position(&self.kernel.scalars, |s| s == word) {
            Some(scalar) => Ok((rest, Factor::Scalar(scalar))),
            None => fatal(blank(text), format!("`{word}` is no variable and no scalar")),
        }
    }
}

fn position<T>(table: &[T], matches: impl Fn(&T) -> bool) -> Option<u32> {
    let at = table.iter().position(matches)?;
    Some(u32::try_from(at).expect("declarations fit in 32 bits"))
}
