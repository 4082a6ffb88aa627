//! Kernel → text: one declaration or statement per line, read back by [`super::Kernel::parse`].

use std::fmt::{self, Display, Formatter, Write};

use super::{
    Access, Buffer, Expr, Factor, Kernel, Offset, Reduction, Scalar, Stmt, Storage, TileId,
    TileType,
};
use crate::text::print_string;

impl Display for TileId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl Storage {
    /// Its name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::I32 => "i32",
            Self::Bool => "bool",
        }
    }
}

impl Scalar {
    /// Its name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::I32 => "i32",
            Self::Bool => "bool",
        }
    }
}

impl Access {
    /// Its name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadWrite => "update",
            Self::Local => "local",
        }
    }
}

impl Reduction {
    /// Its name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Max => "max",
        }
    }
}

impl Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel {} {} {{", self.name, print_string(&self.origin))?;
        for Buffer { name, storage, elements, access, below } in &self.buffers {
            write!(f, "  {} {name}: {}[{elements}]", access.name(), storage.name())?;
            match below {
                Some(below) => writeln!(f, " below {below}")?,
                None => writeln!(f)?,
            }
        }
        for scalar in &self.scalars {
            writeln!(f, "  scalar {scalar}")?;
        }
        for var in &self.vars {
            writeln!(f, "  var {}: {} / {}", var.name, var.extent, var.tile)?;
        }
        let grid: Vec<&str> = self.grid.iter().map(|v| self.var(*v).name.as_str()).collect();
        writeln!(f, "  grid {}\n", grid.join(", "))?;
        self.block(f, &self.body, 1)?;
        writeln!(f, "}}")
    }
}

impl Kernel {
    /// The statements of a block, indented.
    fn block(&self, f: &mut Formatter<'_>, body: &[Stmt], depth: usize) -> fmt::Result {
        body.iter().try_for_each(|stmt| self.stmt(f, stmt, depth))
    }

    fn stmt(&self, f: &mut Formatter<'_>, stmt: &Stmt, depth: usize) -> fmt::Result {
        let pad = "  ".repeat(depth);
        match stmt {
            Stmt::Let(value, expr) => {
                writeln!(f, "{pad}{value}: {} = {}", self.type_text(*value), self.expr_text(expr))
            }
            Stmt::When(mask) => writeln!(f, "{pad}when {mask}"),
            Stmt::Store { buffer, offset, value, mask, accumulate } => {
                let place = self.place(buffer.0, offset);
                let sign = if *accumulate { "+=" } else { "=" };
                writeln!(f, "{pad}store {place} {sign} {value}{}", mask_text(*mask))
            }
            Stmt::Loop { var, carried, body } => {
                write!(f, "{pad}loop {}", self.var(*var).name)?;
                for (i, carry) in carried.iter().enumerate() {
                    let lead = if i == 0 { " carry (" } else { ", " };
                    let ty = self.type_text(carry.arg);
                    write!(f, "{lead}{}: {ty} = {} -> {}", carry.arg, carry.init, carry.result)?;
                }
                writeln!(f, "{} {{", if carried.is_empty() { "" } else { ")" })?;
                self.block(f, body, depth + 1)?;
                if !carried.is_empty() {
                    let next: Vec<TileId> = carried.iter().map(|c| c.next).collect();
                    writeln!(f, "{pad}  next {}", list(&next))?;
                }
                writeln!(f, "{pad}}}")
            }
        }
    }

    fn type_text(&self, value: TileId) -> String {
        let TileType { scalar, vars } = self.ty(value);
        let names: Vec<&str> = vars.iter().map(|v| self.var(*v).name.as_str()).collect();
        if names.is_empty() {
            return scalar.name().to_owned();
        }
        format!("{}[{}]", scalar.name(), names.join(", "))
    }

    fn expr_text(&self, expr: &Expr) -> String {
        match expr {
            Expr::Real(x) => format!("{x:?}"),
            Expr::Int(x) => x.to_string(),
            Expr::Bool(x) => x.to_string(),
            Expr::Index(offset) => format!("index {}", self.offset_text(offset)),
            Expr::Load { buffer, offset, mask } => {
                format!("load {}{}", self.place(buffer.0, offset), mask_text(*mask))
            }
            Expr::Pointwise(op, operands) => format!("{} {}", op.name(), list(operands)),
            Expr::Reduce(reduction, value, var) => {
                format!("reduce {} {value} along {}", reduction.name(), self.var(*var).name)
            }
            Expr::Dot(a, b, var) => format!("dot {a}, {b} along {}", self.var(*var).name),
            Expr::Noise { key, counter } => format!("noise {key} ({})", list(counter)),
        }
    }

    fn place(&self, buffer: u32, offset: &Offset) -> String {
        format!("{}[{}]", self.buffers[buffer as usize].name, self.offset_text(offset))
    }

    /// An offset as it stands between the brackets of a load.
    pub fn offset_text(&self, offset: &Offset) -> String {
        let mut text = String::new();
        for term in &offset.terms {
            text += sign(term.coefficient, text.is_empty());
            if term.coefficient.unsigned_abs() != 1 {
                write!(text, "{}*", term.coefficient.unsigned_abs()).expect("writes to a string");
            }
            text += &self.factor_text(&term.factor);
        }
        if offset.constant != 0 || text.is_empty() {
            text += sign(offset.constant, text.is_empty());
            text += &offset.constant.unsigned_abs().to_string();
        }
        text
    }

    fn factor_text(&self, factor: &Factor) -> String {
        match *factor {
            Factor::Digit { var, divisor, modulus } => {
                let divided = if divisor == 1 { String::new() } else { format!("/{divisor}") };
                let wrapped = if modulus == 0 { String::new() } else { format!("%{modulus}") };
                format!("{}{divided}{wrapped}", self.var(var).name)
            }
            Factor::Scalar(scalar) => self.scalars[scalar as usize].clone(),
            Factor::Tile(tile) => tile.to_string(),
        }
    }
}

fn sign(number: i64, first: bool) -> &'static str {
    match (number < 0, first) {
        (true, true) => "-",
        (true, false) => " - ",
        (false, true) => "",
        (false, false) => " + ",
    }
}

fn mask_text(mask: Option<TileId>) -> String {
    mask.map_or(String::new(), |mask| format!(" where {mask}"))
}

fn list(values: &[TileId]) -> String {
    values.iter().map(TileId::to_string).collect::<Vec<_>>().join(", ")
}
