//! Variables and functions of a module: where they lie, and what they hold at first.

use std::collections::HashMap;

use super::function::Body;
use super::names::{Entity, Range};
use crate::error::PtxError;
use crate::program::*;
use crate::syntax::ast::{self, Init, Module, Stmt, Variable};
use crate::types::{Space, Ty, window};

/// Red zone between shared variables, so that running over the end of one is seen.
pub(super) const SHARED_GAP: u32 = 64;

impl Body<'_> {
    pub(super) fn module_variables(&mut self, module: &Module) -> Result<(), PtxError> {
        self.program.frame_slot = self.rows(64);
        for variable in &module.variables {
            self.declare(variable, module)?;
        }
        Ok(())
    }

    pub(super) fn declare_function(&mut self, function: &ast::Function) -> Result<(), PtxError> {
        if let Some(Entity::Function(i)) = self.lookup(&function.name) {
            // A declaration before or after the definition is the same function.
            if function.body.is_some() {
                self.program.functions[i as usize].span = function.span;
            }
            return Ok(());
        }
        let index = self.program.functions.len() as u32;
        self.program.functions.push(Function {
            name: function.name.clone(),
            is_entry: function.is_entry,
            entry: None,
            params: Vec::new(),
            returns: Vec::new(),
            kernel_params: Vec::new(),
            frame: 0,
            rows: (0, 0),
            preds: (0, 0),
            recursive: false,
            threads: function.threads.clone(),
            cluster: function.cluster.clone(),
            callees: Vec::new(),
            calls_indirectly: false,
            span: function.span,
        });
        self.scopes[0].names.insert(function.name.clone(), Entity::Function(index));
        self.aliases_to_function.insert(function.name.clone(), index);
        Ok(())
    }

    /// Gives a variable its place.
    pub(super) fn declare(&mut self, variable: &Variable, module: &Module) -> Result<(), PtxError> {
        let element = u64::from(variable.ty.bytes()) * u64::from(variable.vector);
        let count = variable.elements.unwrap_or(variable.init.len() as u64);
        let bytes = element * count;
        let entity = match variable.space {
            Space::Reg => return self.declare_register(variable),
            Space::Shared => Entity::Shared(self.place_shared(variable, bytes)),
            Space::Const => {
                Entity::Const(place(&mut self.program.const_bytes, variable.align, bytes))
            }
            Space::Global => {
                let at = place(&mut self.program.global_bytes, variable.align.max(16), bytes);
                self.program.global_variables.push((variable.name.clone(), at, bytes));
                // A gap keeps an overrun from reaching the next variable.
                self.program.global_bytes.resize((at + bytes + 64) as usize, 0);
                Entity::Global(at)
            }
            Space::Local | Space::Param => {
                let at = self.frame_top.next_multiple_of(variable.align.max(1) as u32);
                self.frame_top = at + u32::try_from(bytes).unwrap_or(u32::MAX / 2);
                Entity::Frame(at, variable.space == Space::Param)
            }
            Space::Generic => {
                return Err(self.error(variable.span, "a variable needs a state space"));
            }
        };
        if variable.space != Space::Const
            && variable.space != Space::Global
            && !variable.init.is_empty()
        {
            return Err(
                self.error(variable.span, "only constant and global variables can be initialised")
            );
        }
        let level = self.scopes.len() - 1;
        self.scopes[level].names.insert(variable.name.clone(), entity);
        if level > 0 && !variable.init.is_empty() {
            self.write_init(variable, entity)?;
        }
        let _ = module;
        Ok(())
    }

    pub(super) fn declare_register(&mut self, variable: &Variable) -> Result<(), PtxError> {
        let bits = if variable.ty == Ty::Pred { 1 } else { variable.ty.bits().max(16) };
        let level = self.scopes.len() - 1;
        if let Some(count) = variable.count {
            let range = Range { prefix: variable.name.clone(), count, bits, seen: HashMap::new() };
            self.scopes[level].ranges.push(range);
            return Ok(());
        }
        if variable.vector > 1 {
            return Err(
                self.error(variable.span, "vector registers are not supported: use `{a, b}`")
            );
        }
        let entity = self.new_register(bits);
        self.scopes[level].names.insert(variable.name.clone(), entity);
        Ok(())
    }

    pub(super) fn place_shared(&mut self, variable: &Variable, bytes: u64) -> u32 {
        let align = variable.align.max(u64::from(variable.ty.bytes())).max(1) as u32;
        if variable.elements.is_none_or(|n| n == 0) {
            let offset = self.dynamic_base;
            self.program.shared.push(SharedVariable {
                name: variable.name.clone(),
                offset,
                bytes: None,
            });
            return offset;
        }
        let at = self.shared_top.next_multiple_of(align);
        let bytes = variable_bytes(variable).max(bytes.min(1) as u32);
        self.shared_top = at + bytes + SHARED_GAP;
        self.program.shared.push(SharedVariable {
            name: variable.name.clone(),
            offset: at,
            bytes: Some(bytes),
        });
        at
    }

    /// Writes the initial values of module variables; addresses are known by now.
    pub(super) fn initialise(&mut self, module: &Module) -> Result<(), PtxError> {
        for variable in &module.variables {
            if !variable.init.is_empty()
                && let Some(entity) = self.lookup(&variable.name)
            {
                self.write_init(variable, entity)?;
            }
        }
        Ok(())
    }

    pub(super) fn write_init(
        &mut self,
        variable: &Variable,
        entity: Entity,
    ) -> Result<(), PtxError> {
        let width = variable.ty.bytes() as usize;
        for (i, init) in variable.init.iter().enumerate() {
            let value = match init {
                Init::Bits(bits) => *bits,
                Init::Address(name, offset, generic) => {
                    let Some(target) = self.lookup(name) else {
                        return Err(self.undeclared(name, variable.span));
                    };
                    let address = match target {
                        Entity::Global(at) => window::MODULE + at,
                        Entity::Const(at) => at + if *generic { window::CONST } else { 0 },
                        Entity::Function(index) => window::CODE + u64::from(index) * 16,
                        _ => {
                            return Err(self.error(
                                variable.span,
                                format!("the address of `{name}` is not constant"),
                            ));
                        }
                    };
                    address.wrapping_add_signed(*offset)
                }
            };
            let bytes = match entity {
                Entity::Const(at) => self.program.const_bytes.get_mut(at as usize + i * width..),
                Entity::Global(at) => self.program.global_bytes.get_mut(at as usize + i * width..),
                _ => None,
            };
            let Some(place) = bytes.and_then(|b| b.get_mut(..width)) else {
                return Err(self.error(variable.span, "more initial values than elements"));
            };
            place.copy_from_slice(&value.to_le_bytes()[..width.min(8)]);
        }
        Ok(())
    }
}

/// Bytes of all static shared variables, laid out as [`Body::place_shared`] will.
pub(super) fn static_shared(module: &Module, mut top: u32) -> u32 {
    pub(super) fn walk(statements: &[Stmt], top: &mut u32) {
        for statement in statements {
            match statement {
                Stmt::Variable(variable) => add(variable, top),
                Stmt::Block(inner) => walk(inner, top),
                _ => {}
            }
        }
    }
    pub(super) fn add(variable: &Variable, top: &mut u32) {
        if variable.space == Space::Shared && variable.elements.is_some_and(|n| n > 0) {
            let align = variable.align.max(u64::from(variable.ty.bytes())).max(1) as u32;
            *top = top.next_multiple_of(align) + variable_bytes(variable) + SHARED_GAP;
        }
    }
    module.variables.iter().for_each(|v| add(v, &mut top));
    module.functions.iter().for_each(|f| walk(f.body.as_deref().unwrap_or(&[]), &mut top));
    top.next_multiple_of(1024)
}

pub(super) fn variable_bytes(variable: &Variable) -> u32 {
    let element = u64::from(variable.ty.bytes()) * u64::from(variable.vector);
    u32::try_from(element * variable.elements.unwrap_or(0)).unwrap_or(u32::MAX / 4).min(1 << 24)
}

/// Appends `bytes` zero bytes at an aligned place.
pub(super) fn place(memory: &mut Vec<u8>, align: u64, bytes: u64) -> u64 {
    let at = (memory.len() as u64).next_multiple_of(align.max(1));
    memory.resize((at + bytes) as usize, 0);
    at
}
