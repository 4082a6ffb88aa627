//! Tokens → [`Module`] by recursive descent (PTX ISA, "Directives").

use super::ast::*;
use super::lexer::{Kind, Token, lex};
use crate::error::{PtxError, Span};
use crate::types::{Space, Ty};

/// Nested braces and parentheses beyond this are rejected, so that no input exhausts the stack.
const MAX_DEPTH: u32 = 64;

/// Parses a PTX module.
///
/// # Errors
/// The first place where the text is not PTX, with line and column.
pub fn parse(text: &str) -> Result<Module, PtxError> {
    let tokens = lex(text)?;
    Parser { text, tokens, at: 0, depth: 0 }.module()
}

pub(super) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
    depth: u32,
}

pub(super) type Parsed<T> = Result<T, PtxError>;

/// Linkage words before a declaration.
#[derive(Default, Clone, Copy)]
struct Linkage {
    external: bool,
}

impl<'a> Parser<'a> {
    // --- tokens ---------------------------------------------------------------------------

    pub(super) fn kind(&self) -> Kind<'a> {
        self.tokens[self.at].kind
    }

    pub(super) fn kind_after(&self, n: usize) -> Kind<'a> {
        self.tokens[(self.at + n).min(self.tokens.len() - 1)].kind
    }

    fn span(&self) -> Span {
        self.tokens[self.at].span
    }

    fn last_end(&self) -> usize {
        self.tokens[self.at.saturating_sub(1)].span.end as usize
    }

    pub(super) fn advance(&mut self) {
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
    }

    pub(super) fn error<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(PtxError::new(self.text, self.span(), message))
    }

    fn found(&self) -> String {
        match self.kind() {
            Kind::End => "the end of the text".into(),
            _ => {
                let span = self.span();
                format!("`{}`", &self.text[span.start as usize..span.end as usize])
            }
        }
    }

    pub(super) fn expected<T>(&self, what: &str) -> Parsed<T> {
        self.error(format!("expected {what}, found {}", self.found()))
    }

    fn is(&self, c: char) -> bool {
        self.kind() == Kind::Punct(c)
    }

    pub(super) fn accept(&mut self, c: char) -> bool {
        let yes = self.is(c);
        if yes {
            self.advance();
        }
        yes
    }

    pub(super) fn expect(&mut self, c: char) -> Parsed<()> {
        if self.accept(c) { Ok(()) } else { self.expected(&format!("`{c}`")) }
    }

    fn accept_word(&mut self, word: &str) -> bool {
        let yes = self.kind() == Kind::Word(word);
        if yes {
            self.advance();
        }
        yes
    }

    fn word(&mut self, what: &str) -> Parsed<&'a str> {
        match self.kind() {
            Kind::Word(w) => {
                self.advance();
                Ok(w)
            }
            _ => self.expected(what),
        }
    }

    fn name(&mut self) -> Parsed<String> {
        match self.kind() {
            Kind::Word(w) if !w.starts_with('.') => {
                self.advance();
                Ok(w.to_string())
            }
            _ => self.expected("a name"),
        }
    }

    pub(super) fn nested<T>(&mut self, f: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= MAX_DEPTH {
            return self.error("nested too deeply");
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    /// Items separated by commas up to `close`, which is consumed.
    fn list<T>(
        &mut self,
        close: char,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while !self.accept(close) {
            items.push(item(self)?);
            if !self.accept(',') {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    /// Skips to and over the semicolon that ends a directive of no consequence.
    fn skip_statement(&mut self) -> Parsed<()> {
        while !self.accept(';') {
            if self.kind() == Kind::End || self.is('}') {
                return self.expected("`;`");
            }
            self.advance();
        }
        Ok(())
    }

    fn skip_braces(&mut self) -> Parsed<()> {
        self.expect('{')?;
        let mut open = 1u32;
        while open > 0 {
            match self.kind() {
                Kind::Punct('{') => open += 1,
                Kind::Punct('}') => open -= 1,
                Kind::End => return self.expected("`}`"),
                _ => {}
            }
            self.advance();
        }
        Ok(())
    }

    // --- module ---------------------------------------------------------------------------

    fn module(mut self) -> Parsed<Module> {
        let mut module = Module::default();
        if self.kind() != Kind::Word(".version") {
            return self.expected("`.version`");
        }
        while self.kind() != Kind::End {
            self.module_item(&mut module)?;
        }
        if module.target.is_empty() {
            return self.error("the module has no `.target`");
        }
        Ok(module)
    }

    fn module_item(&mut self, module: &mut Module) -> Parsed<()> {
        match self.kind() {
            Kind::Word(".version") => module.version = self.version()?,
            Kind::Word(".target") => module.target = self.target()?,
            Kind::Word(".address_size") => self.address_size()?,
            Kind::Word(".file") => self.file()?,
            Kind::Word(".section") => {
                self.advance();
                self.advance();
                self.skip_braces()?;
            }
            Kind::Word(".pragma") => self.skip_statement()?,
            Kind::Word(".alias") => {
                self.advance();
                let new = self.name()?;
                self.expect(',')?;
                let old = self.name()?;
                self.expect(';')?;
                module.aliases.push((new, old));
            }
            Kind::Punct(';') => self.advance(),
            _ => self.declaration(module)?,
        }
        Ok(())
    }

    fn version(&mut self) -> Parsed<(u32, u32)> {
        self.advance();
        if let Kind::Decimal(text) = self.kind()
            && let Some((major, minor)) = text.split_once('.')
            && let (Ok(major), Ok(minor)) = (major.parse(), minor.parse())
        {
            self.advance();
            return Ok((major, minor));
        }
        self.expected("a version such as `8.0`")
    }

    fn target(&mut self) -> Parsed<String> {
        self.advance();
        let target = self.name()?;
        while self.accept(',') {
            self.name()?;
        }
        Ok(target)
    }

    fn address_size(&mut self) -> Parsed<()> {
        self.advance();
        if self.kind() != Kind::Int(64) {
            return self.error("only `.address_size 64` is supported");
        }
        self.advance();
        Ok(())
    }

    /// `.file 1 "name" [, time, size]`, without a semicolon.
    fn file(&mut self) -> Parsed<()> {
        self.advance();
        while matches!(self.kind(), Kind::Int(_) | Kind::Text(_) | Kind::Punct(',')) {
            self.advance();
        }
        Ok(())
    }

    fn linkage(&mut self) -> Linkage {
        let mut linkage = Linkage::default();
        loop {
            match self.kind() {
                Kind::Word(".extern") => linkage.external = true,
                Kind::Word(".visible" | ".weak" | ".common") => {}
                _ => return linkage,
            }
            self.advance();
        }
    }

    fn declaration(&mut self, module: &mut Module) -> Parsed<()> {
        let linkage = self.linkage();
        match self.kind() {
            Kind::Word(".entry") => {
                let function = self.function(true)?;
                module.functions.push(function);
            }
            Kind::Word(".func") => {
                let function = self.function(false)?;
                module.functions.push(function);
            }
            Kind::Word(w) if w.starts_with('.') && Space::parse(&w[1..]).is_some() => {
                let variables = self.variables(linkage)?;
                module.variables.extend(variables);
            }
            _ => return self.expected("a declaration"),
        }
        Ok(())
    }

    // --- functions ------------------------------------------------------------------------

    fn function(&mut self, is_entry: bool) -> Parsed<Function> {
        let start = self.span().start as usize;
        self.advance();
        self.attributes()?;
        let returns = if !is_entry && self.accept('(') { self.formals()? } else { Vec::new() };
        let name = self.name()?;
        let span = Span::new(start, self.last_end());
        let params = if self.accept('(') { self.formals()? } else { Vec::new() };
        let mut function = Function {
            name,
            is_entry,
            params,
            returns,
            body: None,
            threads: None,
            cluster: None,
            span,
        };
        self.function_directives(&mut function)?;
        if !self.accept(';') {
            self.expect('{')?;
            function.body = Some(self.body()?);
        }
        Ok(function)
    }

    fn formals(&mut self) -> Parsed<Vec<Variable>> {
        self.list(')', |p| {
            let (space, mut head) = p.variable_head(Linkage::default())?;
            head.space = space;
            p.variable_tail(head)
        })
    }

    /// `.attribute(.managed)` and the like.
    fn attributes(&mut self) -> Parsed<()> {
        while self.accept_word(".attribute") {
            self.expect('(')?;
            while !self.accept(')') {
                if self.kind() == Kind::End {
                    return self.expected("`)`");
                }
                self.advance();
            }
        }
        Ok(())
    }

    /// Performance-tuning and cluster directives between the parameters and the body.
    fn function_directives(&mut self, function: &mut Function) -> Parsed<()> {
        loop {
            match self.kind() {
                Kind::Word(".reqntid") => function.threads = Some((self.numbers()?, true)),
                Kind::Word(".maxntid") => function.threads = Some((self.numbers()?, false)),
                Kind::Word(".reqnctapercluster") => function.cluster = Some(self.numbers()?),
                Kind::Word(".pragma") => self.skip_statement()?,
                Kind::Word(
                    ".minnctapersm"
                    | ".maxnctapersm"
                    | ".maxnreg"
                    | ".maxclusterrank"
                    | ".abi_preserve"
                    | ".abi_preserve_control",
                ) => {
                    self.numbers()?;
                }
                Kind::Word(".noreturn" | ".explicitcluster" | ".blocksareclusters" | ".unique") => {
                    self.advance()
                }
                _ => return Ok(()),
            }
        }
    }

    fn numbers(&mut self) -> Parsed<Vec<u32>> {
        self.advance();
        let mut numbers = Vec::new();
        while let Kind::Int(n) = self.kind() {
            numbers.push(u32::try_from(n).unwrap_or(u32::MAX));
            self.advance();
            if !self.accept(',') {
                break;
            }
        }
        Ok(numbers)
    }

    // --- variables ------------------------------------------------------------------------

    /// One declaration statement; `.reg .b32 a, b;` gives several variables.
    fn variables(&mut self, linkage: Linkage) -> Parsed<Vec<Variable>> {
        let (_, head) = self.variable_head(linkage)?;
        let mut variables = Vec::new();
        loop {
            variables.push(self.variable_tail(head.clone())?);
            if !self.accept(',') {
                break;
            }
        }
        self.expect(';')?;
        Ok(variables)
    }

    /// Space, alignment, vector and type.
    fn variable_head(&mut self, linkage: Linkage) -> Parsed<(Space, Variable)> {
        let span = self.span();
        let mut space = None;
        let mut align = None;
        let mut vector = 1;
        loop {
            self.attributes()?;
            let word = match self.kind() {
                Kind::Word(w) if w.starts_with('.') => &w[1..],
                _ => return self.expected("a type such as `.b32`"),
            };
            let at = self.at;
            self.advance();
            match word {
                "align" => align = Some(self.power_of_two()?),
                "ptr" | "managed" | "unified" => {}
                "v2" => vector = 2,
                "v4" => vector = 4,
                "v8" => vector = 8,
                _ => {
                    if let Some(ty) = Ty::parse(word) {
                        let natural = u64::from(ty.bytes()) * u64::from(vector);
                        // `.param .u64 .ptr .global .align 16 name`: what follows `.ptr` is about
                        // the pointee and changes nothing here.
                        if self.accept_word(".ptr") {
                            self.pointee()?;
                        }
                        let variable = Variable {
                            name: String::new(),
                            space: space.unwrap_or(Space::Param),
                            ty,
                            vector,
                            align: align.unwrap_or(natural.max(1)),
                            elements: Some(1),
                            init: Vec::new(),
                            external: linkage.external,
                            count: None,
                            span,
                        };
                        return Ok((space.unwrap_or(Space::Param), variable));
                    }
                    match Space::parse(word) {
                        Some(s) if space.is_none() => space = Some(s),
                        _ => {
                            self.at = at;
                            return self.expected("a type such as `.b32`");
                        }
                    }
                }
            }
        }
    }

    fn pointee(&mut self) -> Parsed<()> {
        loop {
            match self.kind() {
                Kind::Word(".global" | ".shared" | ".const" | ".local") => self.advance(),
                Kind::Word(".align") => {
                    self.advance();
                    self.power_of_two()?;
                }
                _ => return Ok(()),
            }
        }
    }

    fn power_of_two(&mut self) -> Parsed<u64> {
        match self.kind() {
            Kind::Int(n) if n.is_power_of_two() && n <= 1 << 20 => {
                self.advance();
                Ok(n)
            }
            _ => self.expected("an alignment (a power of two)"),
        }
    }

    /// Name, count or dimensions, initialiser.
    fn variable_tail(&mut self, mut variable: Variable) -> Parsed<Variable> {
        variable.span = self.span();
        variable.name = self.name()?;
        if self.accept('<') {
            let Kind::Int(n) = self.kind() else { return self.expected("a register count") };
            variable.count = Some(u32::try_from(n).unwrap_or(u32::MAX));
            self.advance();
            self.expect('>')?;
        }
        while self.accept('[') {
            if self.accept(']') {
                variable.elements = None;
                continue;
            }
            let n = self.constant()? as u64;
            self.expect(']')?;
            let Some(total) =
                variable.elements.unwrap_or(1).checked_mul(n).filter(|&t| t <= 1 << 32)
            else {
                return self.error("this array is too large");
            };
            variable.elements = Some(total);
        }
        if self.accept('=') {
            self.initialiser(&mut variable)?;
        }
        Ok(variable)
    }

    fn initialiser(&mut self, variable: &mut Variable) -> Parsed<()> {
        if self.accept('{') {
            return self.nested(|p| {
                p.list('}', |p| p.initialiser(variable))?;
                Ok(())
            });
        }
        let init = match self.kind() {
            Kind::Word("generic") if self.kind_after(1) == Kind::Punct('(') => {
                self.advance();
                self.advance();
                let name = self.name()?;
                self.expect(')')?;
                Init::Address(name, self.offset()?, true)
            }
            Kind::Word(_) => {
                let name = self.name()?;
                Init::Address(name, self.offset()?, false)
            }
            _ => Init::Bits(self.scalar_bits(variable.ty)?),
        };
        variable.init.push(init);
        if variable.elements.is_none() {
            variable.elements = None; // Sized later by the number of initial values.
        }
        Ok(())
    }

    fn scalar_bits(&mut self, ty: Ty) -> Parsed<u64> {
        let negative = self.accept('-');
        let sign = |v: f64| if negative { -v } else { v };
        let bits = match self.kind() {
            Kind::F32(b) => u64::from((sign(f64::from(f32::from_bits(b))) as f32).to_bits()),
            Kind::F64(b) if ty == Ty::F32 => u64::from((sign(f64::from_bits(b)) as f32).to_bits()),
            Kind::F64(b) => sign(f64::from_bits(b)).to_bits(),
            Kind::Decimal(t) => {
                let value = sign(t.parse().unwrap_or(0.0));
                if ty == Ty::F32 { u64::from((value as f32).to_bits()) } else { value.to_bits() }
            }
            _ => {
                let value = self.constant()?;
                return Ok(if negative { value.wrapping_neg() } else { value } as u64);
            }
        };
        self.advance();
        Ok(bits)
    }

    // --- bodies ---------------------------------------------------------------------------

    fn body(&mut self) -> Parsed<Vec<Stmt>> {
        self.nested(|p| {
            let mut statements = Vec::new();
            while !p.accept('}') {
                p.statement(&mut statements)?;
            }
            Ok(statements)
        })
    }

    fn statement(&mut self, out: &mut Vec<Stmt>) -> Parsed<()> {
        match self.kind() {
            Kind::Punct(';') => self.advance(),
            Kind::Punct('{') => {
                self.advance();
                out.push(Stmt::Block(self.body()?));
            }
            Kind::Word(".loc") => self.location()?,
            Kind::Word(".file") => self.file()?,
            Kind::Word(".pragma") => self.skip_statement()?,
            Kind::Word(".section") => {
                self.advance();
                self.advance();
                self.skip_braces()?;
            }
            Kind::Word(w) if w.starts_with('.') => {
                let linkage = self.linkage();
                out.extend(self.variables(linkage)?.into_iter().map(Stmt::Variable));
            }
            Kind::Word(_) if self.kind_after(1) == Kind::Punct(':') => self.label(out)?,
            Kind::Word(_) | Kind::Punct('@') => out.push(Stmt::Inst(self.instruction()?)),
            _ => return self.expected("an instruction"),
        }
        Ok(())
    }

    /// `.loc 1 12 3[, function_name sym, inlined_at 1 10 3]`
    fn location(&mut self) -> Parsed<()> {
        self.advance();
        loop {
            match self.kind() {
                Kind::Int(_) | Kind::Punct(',') => self.advance(),
                Kind::Word("function_name") => {
                    self.advance();
                    self.advance();
                    if self.accept('+') {
                        self.advance();
                    }
                }
                Kind::Word("inlined_at") => self.advance(),
                _ => return Ok(()),
            }
        }
    }

    fn label(&mut self, out: &mut Vec<Stmt>) -> Parsed<()> {
        let span = self.span();
        let name = self.name()?;
        self.expect(':')?;
        match self.kind() {
            Kind::Word(".branchtargets" | ".calltargets") => {
                self.advance();
                let targets = self.list(';', Self::name)?;
                out.push(Stmt::Targets(name, targets, span));
            }
            Kind::Word(".callprototype") => {
                self.advance();
                let returns =
                    if self.accept('(') { self.formals_of_prototype()? } else { Vec::new() };
                self.name()?;
                let params =
                    if self.accept('(') { self.formals_of_prototype()? } else { Vec::new() };
                self.skip_statement()?;
                out.push(Stmt::Prototype { name, returns, params });
            }
            _ => out.push(Stmt::Label(name, span)),
        }
        Ok(())
    }

    fn formals_of_prototype(&mut self) -> Parsed<Vec<Variable>> {
        self.formals()
    }

    fn instruction(&mut self) -> Parsed<Instruction> {
        let start = self.span().start as usize;
        let guard = if self.accept('@') {
            let negated = self.accept('!');
            Some((self.name()?, negated))
        } else {
            None
        };
        let opcode = self.word("an opcode")?.to_string();
        let mut operands = Vec::new();
        while !self.is(';') {
            operands.push(self.nested(Self::operand)?);
            if !self.accept(',') && !self.is(';') {
                return self.expected("`,` or `;`");
            }
        }
        let span = Span::new(start, self.span().end as usize);
        self.advance();
        Ok(Instruction { guard, opcode, operands, span })
    }

    // --- operands -------------------------------------------------------------------------

    fn operand(&mut self) -> Parsed<Operand> {
        let first = self.single_operand()?;
        if self.accept('|') {
            let second = self.single_operand()?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn single_operand(&mut self) -> Parsed<Operand> {
        match self.kind() {
            Kind::Word("_") => {
                self.advance();
                Ok(Operand::Sink)
            }
            Kind::Word(w) if !w.starts_with('.') => {
                let span = self.span();
                let name = self.name()?;
                Ok(Operand::Name(name, self.offset()?, span))
            }
            Kind::F32(bits) => {
                self.advance();
                Ok(Operand::F32(bits))
            }
            Kind::F64(bits) => {
                self.advance();
                Ok(Operand::F64(bits))
            }
            Kind::Decimal(text) => {
                self.advance();
                Ok(Operand::F64(text.parse::<f64>().unwrap_or(0.0).to_bits()))
            }
            Kind::Punct('!') => {
                self.advance();
                Ok(Operand::Not(Box::new(self.nested(Self::single_operand)?)))
            }
            Kind::Punct('{') => {
                self.advance();
                Ok(Operand::Vector(self.nested(|p| p.list('}', Self::operand))?))
            }
            Kind::Punct('[') => {
                self.advance();
                Ok(Operand::Address(self.nested(|p| p.list(']', Self::operand))?))
            }
            Kind::Punct('(') => self.parenthesis(),
            Kind::Punct('-')
                if matches!(self.kind_after(1), Kind::Decimal(_) | Kind::F32(_) | Kind::F64(_)) =>
            {
                self.advance();
                Ok(match self.single_operand()? {
                    Operand::F32(bits) => Operand::F32(bits ^ 1 << 31),
                    Operand::F64(bits) => Operand::F64(bits ^ 1 << 63),
                    other => other,
                })
            }
            Kind::Punct('-') if matches!(self.kind_after(1), Kind::Word(w) if w.starts_with('%')) =>
            {
                self.advance();
                Ok(Operand::Negated(Box::new(self.single_operand()?)))
            }
            _ => Ok(Operand::Int(self.constant()? as u64)),
        }
    }

    /// `(a, b)` of a call, or a constant expression in parentheses.
    fn parenthesis(&mut self) -> Parsed<Operand> {
        if matches!(self.kind_after(1), Kind::Int(_) | Kind::Punct('-' | '~' | '('))
            && let Some(value) = self.attempt(Self::constant)
        {
            if matches!(self.kind(), Kind::Punct(',' | ';' | ']' | '}')) {
                // A call whose only argument is a constant reads the same; the decoder accepts
                // a bare constant as a list of one.
                return Ok(Operand::Int(value as u64));
            }
            return self.expected("`,` or `;`");
        }
        self.advance();
        Ok(Operand::List(self.nested(|p| p.list(')', Self::operand))?))
    }

    fn attempt<T>(&mut self, f: impl FnOnce(&mut Self) -> Parsed<T>) -> Option<T> {
        let (at, depth) = (self.at, self.depth);
        let result = f(self).ok();
        if result.is_none() {
            (self.at, self.depth) = (at, depth);
        }
        result
    }

    /// `+4`, `-4`, `+-4` after a name.
    fn offset(&mut self) -> Parsed<i64> {
        let mut total = 0i64;
        loop {
            let negative = match self.kind() {
                Kind::Punct('+') => false,
                Kind::Punct('-') => true,
                _ => return Ok(total),
            };
            self.advance();
            let value = self.unary()?;
            total = if negative { total.wrapping_sub(value) } else { total.wrapping_add(value) };
        }
    }
}
