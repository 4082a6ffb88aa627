//! One instruction while it is decoded: its modifiers and operands are taken one by one, and
//! whatever is left at the end is an error.

use super::function::Body;
use super::names::Entity;
use crate::error::PtxError;
use crate::lanes::{BoolOp, Isa, Pred, Slot};
use crate::num::Round;
use crate::program::{Address, Flow, FlowRule, Scope};
use crate::syntax::ast::{Instruction, Operand};
use crate::types::{Space, Ty, window};

/// The cursor.
pub(crate) struct Ins<'i, 'm> {
    pub(crate) body: &'i mut Body<'m>,
    pub(crate) ast: &'i Instruction,
    mods: Vec<&'i str>,
    used: Vec<bool>,
    next: usize,
    /// The minus of the next operand has been taken.
    unsigned: bool,
    pub(crate) flow: Flow,
}

type Res<T> = Result<T, PtxError>;

impl<'i, 'm> Ins<'i, 'm> {
    pub(crate) fn new(body: &'i mut Body<'m>, ast: &'i Instruction) -> Self {
        let mods: Vec<&str> = ast.opcode.split('.').skip(1).collect();
        let used = vec![false; mods.len()];
        Ins { body, ast, mods, used, next: 0, unsigned: false, flow: Flow::default() }
    }

    pub(crate) fn isa(&self) -> Isa {
        self.body.isa()
    }

    pub(crate) fn error<T>(&self, message: impl Into<String>) -> Res<T> {
        Err(self.body.error(self.ast.span, message))
    }

    /// An operation that this family has but not in this form.
    pub(crate) fn unsupported<T>(&self) -> Res<T> {
        self.error(format!("`{}` is not supported in this form", self.ast.opcode))
    }

    // --- modifiers ------------------------------------------------------------------------

    /// Takes modifier `name` if present.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let found = self.mods.iter().zip(&self.used).position(|(m, used)| !used && *m == name);
        if let Some(i) = found {
            self.used[i] = true;
        }
        found.is_some()
    }

    /// Takes the first modifier that is one of `choices`.
    pub(crate) fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        for i in 0..self.mods.len() {
            if !self.used[i]
                && let Some((_, value)) = choices.iter().find(|(name, _)| *name == self.mods[i])
            {
                self.used[i] = true;
                return Some(*value);
            }
        }
        None
    }

    /// Takes the next modifier that `parse` accepts.
    pub(crate) fn parsed<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        for i in 0..self.mods.len() {
            if !self.used[i]
                && let Some(value) = parse(self.mods[i])
            {
                self.used[i] = true;
                return Some(value);
            }
        }
        None
    }

    /// Whether modifier `name` is there, taken or not.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.mods.contains(&name)
    }

    /// Takes the next type.
    pub(crate) fn ty(&mut self) -> Res<Ty> {
        match self.parsed(Ty::parse) {
            Some(ty) => Ok(ty),
            None => self.error(format!("`{}` lacks a type", self.ast.opcode)),
        }
    }

    /// Takes a rounding modifier.
    pub(crate) fn round(&mut self) -> Option<Round> {
        self.choice(&[
            ("rn", Round::Even),
            ("rz", Round::Zero),
            ("rm", Round::Down),
            ("rp", Round::Up),
            ("rna", Round::Away),
        ])
    }

    /// Takes a scope.
    pub(crate) fn scope(&mut self) -> Option<Scope> {
        self.choice(&[
            ("cta", Scope::Cta),
            ("cluster", Scope::Cluster),
            ("gpu", Scope::Gpu),
            ("gl", Scope::Gpu),
            ("sys", Scope::Sys),
        ])
    }

    /// Takes `.and`, `.or`, `.xor`.
    pub(crate) fn bool_op(&mut self) -> Option<BoolOp> {
        self.choice(&[("and", BoolOp::And), ("or", BoolOp::Or), ("xor", BoolOp::Xor)])
    }

    /// Takes cache hints, which change no result.
    pub(crate) fn cache_hints(&mut self) {
        const HINTS: &[&str] = &[
            "ca",
            "cg",
            "cs",
            "lu",
            "cv",
            "wb",
            "wt",
            "nc",
            "L1::evict_normal",
            "L1::evict_unchanged",
            "L1::evict_first",
            "L1::evict_last",
            "L1::no_allocate",
            "L2::cache_hint",
            "L2::64B",
            "L2::128B",
            "L2::256B",
            "L2::evict_last",
            "L2::evict_normal",
            "L2::evict_first",
        ];
        while self.parsed(|m| HINTS.contains(&m).then_some(())).is_some() {}
    }

    /// Checks that nothing is left over.
    pub(crate) fn finish(&self) -> Res<()> {
        if let Some(i) = self.used.iter().position(|used| !used) {
            return self.error(format!(
                "modifier `.{}` is not supported on `{}`",
                self.mods[i],
                self.base()
            ));
        }
        if self.next < self.ast.operands.len() {
            let (want, have) = (self.next, self.ast.operands.len());
            return self
                .error(format!("`{}` takes {want} operands, found {have}", self.ast.opcode));
        }
        Ok(())
    }

    /// First word of the opcode.
    pub(crate) fn base(&self) -> &'i str {
        self.ast.opcode.split('.').next().unwrap_or("")
    }

    // --- operands -------------------------------------------------------------------------

    /// Operands not yet taken.
    pub(crate) fn left(&self) -> usize {
        self.ast.operands.len() - self.next
    }

    pub(crate) fn peek(&self) -> Option<&'i Operand> {
        self.ast.operands.get(self.next)
    }

    pub(crate) fn take(&mut self) -> Res<&'i Operand> {
        match self.ast.operands.get(self.next) {
            Some(operand) => {
                self.next += 1;
                match operand {
                    Operand::Negated(inner) if std::mem::take(&mut self.unsigned) => Ok(inner),
                    operand => Ok(operand),
                }
            }
            None => self.error(format!("`{}` lacks an operand", self.ast.opcode)),
        }
    }

    /// Whether the next operand has a minus in front, which is taken.
    pub(crate) fn negated(&mut self) -> bool {
        match self.ast.operands.get(self.next) {
            Some(Operand::Negated(_)) if !self.unsigned => {
                self.unsigned = true;
                true
            }
            _ => false,
        }
    }

    /// A destination register of exactly the width of `ty`.
    pub(crate) fn dst(&mut self, ty: Ty) -> Res<Slot> {
        let operand = self.take()?;
        let (slot, bits) = self.dst_of(operand, ty.bits())?;
        self.check_width(bits, ty)?;
        Ok(slot)
    }

    /// A destination register of any width; `_` gets a scratch register of `want` bits.
    pub(crate) fn dst_of(&mut self, operand: &Operand, want: u32) -> Res<(Slot, u32)> {
        match operand {
            Operand::Sink => Ok((self.body.scratch(want), want.max(16))),
            Operand::Name(name, 0, span) => match self.body.lookup(name) {
                Some(Entity::Reg(slot, bits)) => {
                    self.flow.writes.extend(slot..slot + bits.div_ceil(32));
                    Ok((slot, bits))
                }
                Some(_) => Err(self.body.error(*span, format!("`{name}` cannot be written"))),
                None => Err(self.body.undeclared(name, *span)),
            },
            _ => self.error("the destination must be a register"),
        }
    }

    fn check_width(&self, bits: u32, ty: Ty) -> Res<()> {
        if bits == ty.bits().max(16) {
            return Ok(());
        }
        self.error(format!(
            "a {bits}-bit register cannot hold the {}-bit operand of `{}`",
            ty.bits(),
            self.ast.opcode
        ))
    }

    /// A source of exactly the width of `ty`: register, special register, constant or address.
    pub(crate) fn src(&mut self, ty: Ty) -> Res<Slot> {
        let operand = self.take()?;
        self.src_of(operand, ty)
    }

    pub(crate) fn src_of(&mut self, operand: &Operand, ty: Ty) -> Res<Slot> {
        let (slot, bits) = self.src_any(operand, ty)?;
        self.check_width(bits, ty)?;
        Ok(slot)
    }

    /// A source that may be wider than `ty` (`ld`, `st`, `cvt`); constants take the width of `ty`.
    pub(crate) fn src_any(&mut self, operand: &Operand, ty: Ty) -> Res<(Slot, u32)> {
        let bits = ty.bits().max(16);
        let constant = |this: &mut Self, value: u64| Ok((this.body.constant(value, bits), bits));
        match operand {
            Operand::Int(v) if ty == Ty::F32 => {
                constant(self, u64::from((*v as i64 as f32).to_bits()))
            }
            Operand::Int(v) if ty == Ty::F64 => constant(self, (*v as i64 as f64).to_bits()),
            Operand::Int(v) => constant(self, *v),
            Operand::F32(b) if ty == Ty::F64 => {
                constant(self, f64::from(f32::from_bits(*b)).to_bits())
            }
            Operand::F32(b) => constant(self, u64::from(*b)),
            Operand::F64(b) if bits == 64 => constant(self, *b),
            Operand::F64(b) => constant(self, u64::from((f64::from_bits(*b) as f32).to_bits())),
            Operand::Name(name, 0, _) if name == "WARP_SZ" => constant(self, 32),
            Operand::Name(name, offset, span) => match self.body.lookup(name) {
                Some(Entity::Reg(slot, bits)) if *offset == 0 => {
                    self.reads(slot, bits);
                    Ok((slot, bits))
                }
                Some(Entity::Pred(_)) => {
                    Err(self.body.error(*span, format!("`{name}` is a predicate")))
                }
                Some(Entity::Reg(..)) => {
                    Err(self.body.error(*span, "a register takes no offset here"))
                }
                Some(entity) => {
                    let slot = self.body.address_of(&entity, *offset, bits);
                    slot.map(|s| (s, bits))
                        .ok_or_else(|| self.body.error(*span, format!("`{name}` has no address")))
                }
                None => match self.body.special(name, bits) {
                    Some(slot) => Ok((slot, bits)),
                    None => Err(self.body.undeclared(name, *span)),
                },
            },
            Operand::Sink => Ok((self.body.scratch(bits), bits)),
            Operand::Vector(items) if items.len() == 1 => self.src_any(&items[0], ty),
            _ => self.error("this operand must be a register or a constant"),
        }
    }

    fn reads(&mut self, slot: Slot, bits: u32) {
        self.flow.reads.extend(slot..slot + bits.div_ceil(32));
    }

    /// Says that the instruction moves the bits of these registers of type `ty` about.
    pub(crate) fn moves(&mut self, data: &[Slot], ty: Ty) {
        let rows = ty.bits().div_ceil(32);
        let rows = data.iter().flat_map(|&s| s..s + rows).collect();
        self.flow.rule = FlowRule::Moved(rows);
    }

    /// A source predicate, possibly negated; `true`/`false` constants too.
    pub(crate) fn pred_src(&mut self) -> Res<(Pred, bool)> {
        let operand = self.take()?;
        self.pred_of(operand)
    }

    pub(crate) fn pred_of(&mut self, operand: &Operand) -> Res<(Pred, bool)> {
        match operand {
            Operand::Not(inner) => {
                let (pred, negated) = self.pred_of(inner)?;
                Ok((pred, !negated))
            }
            Operand::Name(name, 0, span) => match self.body.lookup(name) {
                Some(Entity::Pred(pred)) => {
                    self.flow.pred_reads.push(pred);
                    Ok((pred, false))
                }
                Some(_) => Err(self.body.error(*span, format!("`{name}` is not a predicate"))),
                None => Err(self.body.undeclared(name, *span)),
            },
            Operand::Int(v) => Ok((self.body.true_pred(), *v == 0)),
            _ => self.error("this operand must be a predicate"),
        }
    }

    /// A destination predicate; `None` for `_`.
    pub(crate) fn pred_dst_of(&mut self, operand: &Operand) -> Res<Option<Pred>> {
        match operand {
            Operand::Sink => Ok(None),
            Operand::Name(name, 0, span) => match self.body.lookup(name) {
                Some(Entity::Pred(pred)) => {
                    self.flow.pred_writes.push(pred);
                    Ok(Some(pred))
                }
                Some(_) => Err(self.body.error(*span, format!("`{name}` is not a predicate"))),
                None => Err(self.body.undeclared(name, *span)),
            },
            _ => self.error("the destination must be a predicate"),
        }
    }

    pub(crate) fn pred_dst(&mut self) -> Res<Pred> {
        let operand = self.take()?;
        match self.pred_dst_of(operand)? {
            Some(pred) => Ok(pred),
            None => Ok(self.body.scratch_pred()),
        }
    }

    /// The elements of `{a, b}`, or the operand itself as the only one.
    pub(crate) fn vector(&mut self) -> Res<&'i [Operand]> {
        Ok(match self.take()? {
            Operand::Vector(items) => items,
            other => std::slice::from_ref(other),
        })
    }

    /// A vector of exactly `n` sources of type `ty`.
    pub(crate) fn sources(&mut self, n: usize, ty: Ty) -> Res<Vec<Slot>> {
        let items = self.vector()?;
        if items.len() != n {
            return self
                .error(format!("expected a vector of {n} registers, found {}", items.len()));
        }
        items.iter().map(|item| self.src_of(item, ty)).collect()
    }

    /// A vector of exactly `n` destinations of type `ty`.
    pub(crate) fn destinations(&mut self, n: usize, ty: Ty) -> Res<Vec<Slot>> {
        let items = self.vector()?;
        if items.len() != n {
            return self
                .error(format!("expected a vector of {n} registers, found {}", items.len()));
        }
        items
            .iter()
            .map(|item| {
                let (slot, bits) = self.dst_of(item, ty.bits())?;
                self.check_width(bits, ty)?;
                Ok(slot)
            })
            .collect()
    }

    /// An immediate integer.
    pub(crate) fn immediate(&mut self) -> Res<u64> {
        match self.take()? {
            Operand::Int(v) => Ok(*v),
            _ => self.error("this operand must be an integer constant"),
        }
    }

    /// `[base + offset]` in `space`.
    pub(crate) fn address(&mut self, space: Space) -> Res<Address> {
        let operand = self.take()?;
        match operand {
            Operand::Address(items) if items.len() == 1 => self.address_item(&items[0], space),
            Operand::Address(_) => self.unsupported(),
            _ => self.error("this operand must be an address in brackets"),
        }
    }

    pub(crate) fn address_item(&mut self, item: &Operand, space: Space) -> Res<Address> {
        match item {
            Operand::Int(v) => Ok(Address { space, base: None, offset: *v as i64 }),
            Operand::Name(name, offset, span) => match self.body.lookup(name) {
                Some(Entity::Reg(slot, bits)) => {
                    if bits < 32 {
                        return Err(self
                            .body
                            .error(*span, "an address needs a 32- or 64-bit register"));
                    }
                    self.reads(slot, bits);
                    // A parameter's address in a register is generic: the kernel's buffer or a frame.
                    let space = if space == Space::Param { Space::Generic } else { space };
                    Ok(Address { space, base: Some((slot, bits == 64)), offset: *offset })
                }
                Some(entity) => match self.symbol_address(&entity, *offset, space) {
                    Some(address) => Ok(address),
                    None => Err(self.body.error(
                        *span,
                        format!("`{name}` is not in the space of `{}`", self.ast.opcode),
                    )),
                },
                None => Err(self.body.undeclared(name, *span)),
            },
            _ => self.error("an address is a register or a variable plus a constant"),
        }
    }

    fn symbol_address(&mut self, entity: &Entity, offset: i64, space: Space) -> Option<Address> {
        let frame = Some((self.body.frame_slot(), true));
        Some(match (*entity, space) {
            (Entity::Shared(at), Space::Shared) => {
                Address { space, base: None, offset: i64::from(at) + offset }
            }
            (Entity::Shared(at), Space::Generic) => {
                Address { space: Space::Shared, base: None, offset: i64::from(at) + offset }
            }
            (Entity::Const(at), Space::Const | Space::Generic) => {
                Address { space: Space::Const, base: None, offset: at as i64 + offset }
            }
            (Entity::Global(at), Space::Global | Space::Generic) => Address {
                space: Space::Global,
                base: None,
                offset: (window::MODULE + at) as i64 + offset,
            },
            (Entity::KernelParam(at), Space::Param | Space::Generic | Space::Const) => {
                Address { space: Space::Param, base: None, offset: i64::from(at) + offset }
            }
            (Entity::Frame(at, _), Space::Local | Space::Param | Space::Generic) => {
                Address { space: Space::Local, base: frame, offset: i64::from(at) + offset }
            }
            _ => return None,
        })
    }
}
