//! Modules, functions, scopes and labels.

use std::collections::HashMap;

use super::FAMILIES;
use super::ins::Ins;
use crate::error::{PtxError, Span};
use crate::forms;
use crate::lanes::{AluFn, Isa, Pred, Slot, map1};
use crate::program::*;
use crate::syntax::ast::{self, Init, Module, Stmt, Variable};
use crate::types::{Space, Ty, window};

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entity {
    /// A register and its width in bits (at least 16).
    Reg(Slot, u32),
    Pred(Pred),
    Shared(u32),
    Const(u64),
    Global(u64),
    /// Offset in the kernel's parameter buffer.
    KernelParam(u32),
    /// Offset in the function's frame; `true` for `.param` variables.
    Frame(u32, bool),
    Function(u32),
    Label(u32),
    /// `.branchtargets` and friends, by index.
    Targets(u32),
}

/// `%r<N>`: prefix, count, width (1 for predicates).
#[derive(Debug, Clone)]
struct Range {
    prefix: String,
    count: u32,
    bits: u32,
    seen: HashMap<u32, Entity>,
}

#[derive(Debug, Default)]
struct Scope {
    names: HashMap<String, Entity>,
    ranges: Vec<Range>,
}

/// Red zone between shared variables, so that running over the end of one is seen.
const SHARED_GAP: u32 = 64;

/// Shared memory that the system keeps for itself at the front of each block's, and where in it
/// cooperative groups have their scratch (PTX ISA, `%reserved_smem_offset_*`).
const RESERVED_SHARED: u32 = 1024;
const RESERVED_SCRATCH: u32 = 512;

/// Functions that CUDA programs call without defining them.
const BUILTINS: &[(&str, Builtin)] = &[
    ("__assertfail", Builtin::Assert),
    ("vprintf", Builtin::Printf),
    ("malloc", Builtin::Malloc),
    ("free", Builtin::Free),
];

/// Decodes a module.
///
/// # Errors
/// The first thing that cannot be run, at its place in `text`.
pub(crate) fn decode(text: &str, module: &Module, isa: Isa) -> Result<Program, PtxError> {
    let mut body = Body::new(text, isa);
    body.program.target.clone_from(&module.target);
    body.reserve_shared(text);
    body.dynamic_base = static_shared(module, body.shared_top);
    body.module_variables(module)?;
    for (index, function) in module.functions.iter().enumerate() {
        body.declare_function(function, index)?;
    }
    for (new, old) in &module.aliases {
        if let Some(entity) = body.lookup(old) {
            body.scopes[0].names.insert(new.clone(), entity);
        }
    }
    body.initialise(module)?;
    for function in &module.functions {
        if function.body.is_some() {
            body.function(function)?;
        }
    }
    body.finish()
}

/// The decoder: the program so far and the scopes around the cursor.
pub(crate) struct Body<'m> {
    text: &'m str,
    lines: Vec<usize>,
    isa: Isa,
    program: Program,
    scopes: Vec<Scope>,
    constants: HashMap<(u64, u32), Slot>,
    specials: HashMap<(Special, u32), Slot>,
    opcodes: HashMap<String, u32>,
    labels: Vec<Option<u32>>,
    label_uses: Vec<(u32, Span)>,
    pub(crate) targets: Vec<Vec<String>>,
    /// Layout of shared memory and frames.
    shared_top: u32,
    /// Dynamic shared memory begins where the static variables end, 1024-aligned as on hardware.
    dynamic_base: u32,
    frame_top: u32,
    pub(crate) current: u32,
    /// Carry flag of `add.cc` and friends.
    pub(crate) carry: Pred,
    true_pred: Pred,
    /// Where module memory has the workspace of grid synchronisation, once something asks for it.
    workspace: Option<u64>,
    aliases_to_function: HashMap<String, u32>,
}

impl<'m> Body<'m> {
    fn new(text: &'m str, isa: Isa) -> Self {
        let lines =
            std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        let program =
            Program { text: text.to_string(), isa, rows: 2, preds: 2, ..Program::default() };
        Body {
            text,
            lines,
            isa,
            program,
            scopes: vec![Scope::default()],
            constants: HashMap::new(),
            specials: HashMap::new(),
            opcodes: HashMap::new(),
            labels: Vec::new(),
            label_uses: Vec::new(),
            targets: Vec::new(),
            shared_top: 0,
            dynamic_base: 0,
            frame_top: 0,
            current: 0,
            carry: 0,
            true_pred: 1,
            workspace: None,
            aliases_to_function: HashMap::new(),
        }
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    pub(crate) fn error(&self, span: Span, message: impl Into<String>) -> PtxError {
        PtxError::new(self.text, span, message)
    }

    pub(crate) fn undeclared(&self, name: &str, span: Span) -> PtxError {
        self.error(span, format!("`{name}` is not declared"))
    }

    // --- slots ----------------------------------------------------------------------------

    fn rows(&mut self, bits: u32) -> Slot {
        let slot = self.program.rows;
        self.program.rows += bits.div_ceil(32);
        slot
    }

    /// A register of its own that nobody else names.
    pub(crate) fn scratch(&mut self, bits: u32) -> Slot {
        self.rows(bits)
    }

    pub(crate) fn scratch_pred(&mut self) -> Pred {
        self.program.preds += 1;
        self.program.preds - 1
    }

    /// A predicate that always holds.
    pub(crate) fn true_pred(&self) -> Pred {
        self.true_pred
    }

    /// A register that always holds `value`.
    pub(crate) fn constant(&mut self, value: u64, bits: u32) -> Slot {
        let value = if bits < 64 { value & ((1 << bits) - 1) } else { value };
        let rows = bits.div_ceil(32);
        if let Some(&slot) = self.constants.get(&(value, rows)) {
            return slot;
        }
        let slot = self.rows(bits);
        for i in 0..rows {
            self.program
                .constants
                .push((slot + i, if i < 2 { (value >> (32 * i)) as u32 } else { 0 }));
        }
        self.constants.insert((value, rows), slot);
        slot
    }

    /// The register that holds special register `name`, widened to `bits`.
    pub(crate) fn special(&mut self, name: &str, bits: u32) -> Option<Slot> {
        if let Some(value) = self.system_value(name) {
            return Some(self.constant(value, bits));
        }
        let special = parse_special(name)?;
        let wide = bits == 64;
        if let Some(&slot) = self.specials.get(&(special, u32::from(wide))) {
            return Some(slot);
        }
        let slot = self.rows(if wide { 64 } else { 32 });
        self.program.specials.push((special, slot, wide));
        self.specials.insert((special, u32::from(wide)), slot);
        Some(slot)
    }

    /// What the system leaves in registers for the libraries of the toolkit: where the reserved shared
    /// memory is, and the address of a zeroed workspace with which a grid synchronises.
    fn system_value(&mut self, name: &str) -> Option<u64> {
        Some(match name {
            "%reserved_smem_offset_begin" | "%reserved_smem_offset_0" => 0,
            "%reserved_smem_offset_1" => u64::from(RESERVED_SCRATCH),
            "%reserved_smem_offset_end" | "%reserved_smem_offset_cap" => u64::from(RESERVED_SHARED),
            "%envreg1" => self.grid_workspace() >> 32,
            "%envreg2" => self.grid_workspace() & 0xffff_ffff,
            _ => return None,
        })
    }

    fn grid_workspace(&mut self) -> u64 {
        let bytes = &mut self.program.global_bytes;
        let at = *self.workspace.get_or_insert_with(|| place(bytes, 16, 64));
        window::MODULE + at
    }

    fn reserve_shared(&mut self, text: &str) {
        if text.contains("%reserved_smem_offset_") {
            self.shared_top = RESERVED_SHARED + SHARED_GAP;
            self.program.reserved_shared = RESERVED_SHARED;
            self.program.shared.push(SharedVariable {
                name: "reserved memory".into(),
                offset: 0,
                bytes: Some(RESERVED_SHARED),
            });
        }
    }

    /// The register that holds each lane's frame address.
    pub(crate) fn frame_slot(&self) -> Slot {
        self.program.frame_slot
    }

    // --- names ----------------------------------------------------------------------------

    pub(crate) fn lookup(&mut self, name: &str) -> Option<Entity> {
        for level in (0..self.scopes.len()).rev() {
            if let Some(&entity) = self.scopes[level].names.get(name) {
                return Some(entity);
            }
            if let Some(entity) = self.in_range(level, name) {
                return Some(entity);
            }
        }
        None
    }

    fn in_range(&mut self, level: usize, name: &str) -> Option<Entity> {
        if self.scopes[level].ranges.is_empty() {
            return None;
        }
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        // A prefix may itself end in digits (`%f16_<4>` does not, `%r1<4>` does): try every split.
        for split in prefix.len()..name.len() {
            let digits = &name[split..];
            if digits.len() > 1 && digits.starts_with('0') {
                continue;
            }
            let Ok(index) = digits.parse::<u32>() else { continue };
            let range = self.scopes[level]
                .ranges
                .iter()
                .position(|r| r.prefix == name[..split] && index < r.count);
            let Some(range) = range else { continue };
            let bits = self.scopes[level].ranges[range].bits;
            if let Some(&entity) = self.scopes[level].ranges[range].seen.get(&index) {
                return Some(entity);
            }
            let entity = self.new_register(bits);
            self.scopes[level].ranges[range].seen.insert(index, entity);
            return Some(entity);
        }
        None
    }

    fn new_register(&mut self, bits: u32) -> Entity {
        if bits == 1 {
            Entity::Pred(self.scratch_pred())
        } else {
            Entity::Reg(self.rows(bits), bits)
        }
    }

    /// A register with the address of a variable, function or label in its own space.
    pub(crate) fn address_of(&mut self, entity: &Entity, offset: i64, bits: u32) -> Option<Slot> {
        let value = match *entity {
            Entity::Shared(at) => i64::from(at) + offset,
            Entity::Const(at) => at as i64 + offset,
            Entity::Global(at) => (window::MODULE + at) as i64 + offset,
            Entity::KernelParam(at) => (window::PARAM + u64::from(at)) as i64 + offset,
            Entity::Function(index) => (window::CODE + u64::from(index) * 16) as i64 + offset,
            Entity::Frame(at, param) => {
                let base = if param { window::LOCAL as i64 } else { 0 };
                return Some(self.frame_address(i64::from(at) + offset + base, bits));
            }
            _ => return None,
        };
        Some(self.constant(value as u64, bits))
    }

    /// Emits an addition of the frame address and returns the register of the sum.
    fn frame_address(&mut self, offset: i64, bits: u32) -> Slot {
        let d = self.rows(bits);
        let frame = self.program.frame_slot;
        let add: AluFn = if bits == 64 {
            map1::<u64, u64, _>(self.isa, d, frame, move |f| f.wrapping_add(offset as u64))
        } else {
            map1::<u64, u32, _>(self.isa, d, frame, move |f| f.wrapping_add(offset as u64) as u32)
        };
        let line = self.program.code.last().map_or(0, |i| i.line);
        let opcode = self.opcode_index("mov");
        self.program.code.push(Inst {
            op: Op::Alu(add),
            guard: None,
            line,
            opcode,
            is_move: false,
            flow: Flow::default(),
        });
        d
    }

    // --- module ---------------------------------------------------------------------------

    fn module_variables(&mut self, module: &Module) -> Result<(), PtxError> {
        self.program.frame_slot = self.rows(64);
        for variable in &module.variables {
            self.declare(variable, module)?;
        }
        Ok(())
    }

    fn declare_function(
        &mut self,
        function: &ast::Function,
        _index: usize,
    ) -> Result<(), PtxError> {
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
    fn declare(&mut self, variable: &Variable, module: &Module) -> Result<(), PtxError> {
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

    fn declare_register(&mut self, variable: &Variable) -> Result<(), PtxError> {
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

    fn place_shared(&mut self, variable: &Variable, bytes: u64) -> u32 {
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
    fn initialise(&mut self, module: &Module) -> Result<(), PtxError> {
        for variable in &module.variables {
            if !variable.init.is_empty()
                && let Some(entity) = self.lookup(&variable.name)
            {
                self.write_init(variable, entity)?;
            }
        }
        Ok(())
    }

    fn write_init(&mut self, variable: &Variable, entity: Entity) -> Result<(), PtxError> {
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

    // --- functions ------------------------------------------------------------------------

    fn function(&mut self, function: &ast::Function) -> Result<(), PtxError> {
        let Some(Entity::Function(index)) = self.lookup(&function.name) else {
            return Err(self.undeclared(&function.name, function.span));
        };
        if self.program.functions[index as usize].entry.is_some() {
            return Err(self.error(function.span, format!("`{}` is defined twice", function.name)));
        }
        self.current = index;
        self.frame_top = 0;
        let (rows, preds) = (self.program.rows, self.program.preds);
        self.scopes.push(Scope::default());
        self.formals(function, index)?;
        self.program.functions[index as usize].entry = Some(self.program.code.len() as u32);
        let statements = function.body.as_deref().unwrap_or(&[]);
        self.block(statements)?;
        self.end_of_function(function.span);
        self.scopes.pop();
        self.resolve_labels()?;
        let done = &mut self.program.functions[index as usize];
        done.frame = self.frame_top.next_multiple_of(16);
        done.rows = (rows, self.program.rows);
        done.preds = (preds, self.program.preds);
        Ok(())
    }

    /// A body that runs off its end returns.
    fn end_of_function(&mut self, span: Span) {
        let opcode = self.opcode_index("ret");
        let line = self.program.code.last().map_or_else(|| self.line(span), |i| i.line);
        self.program.code.push(Inst {
            op: Op::Ret,
            guard: None,
            line,
            opcode,
            is_move: false,
            flow: Flow::default(),
        });
    }

    fn formals(&mut self, function: &ast::Function, index: u32) -> Result<(), PtxError> {
        if function.is_entry {
            let mut top = 0u32;
            for param in &function.params {
                let bytes = variable_bytes(param);
                let at = top.next_multiple_of(param.align.max(1) as u32);
                top = at + bytes;
                self.program.functions[index as usize].kernel_params.push((
                    param.name.clone(),
                    at,
                    bytes,
                ));
                self.scopes[1].names.insert(param.name.clone(), Entity::KernelParam(at));
            }
            return Ok(());
        }
        for (formal, is_return) in function
            .params
            .iter()
            .map(|p| (p, false))
            .chain(function.returns.iter().map(|p| (p, true)))
        {
            let place = if formal.space == Space::Reg {
                let bits = formal.ty.bits().max(16);
                let slot = self.rows(bits);
                self.scopes[1].names.insert(formal.name.clone(), Entity::Reg(slot, bits));
                Formal::Register { slot, rows: bits.div_ceil(32) }
            } else {
                let bytes = variable_bytes(formal);
                let at = self.frame_top.next_multiple_of(formal.align.max(1) as u32);
                self.frame_top = at + bytes;
                self.scopes[1].names.insert(formal.name.clone(), Entity::Frame(at, true));
                Formal::Frame { offset: at, bytes }
            };
            let done = &mut self.program.functions[index as usize];
            if is_return { done.returns.push(place) } else { done.params.push(place) }
        }
        Ok(())
    }

    /// Statements of one scope.
    fn block(&mut self, statements: &[Stmt]) -> Result<(), PtxError> {
        self.scopes.push(Scope::default());
        let level = self.scopes.len() - 1;
        for statement in statements {
            match statement {
                Stmt::Label(name, _) => {
                    let id = self.labels.len() as u32;
                    self.labels.push(None);
                    self.scopes[level].names.insert(name.clone(), Entity::Label(id));
                }
                Stmt::Targets(name, targets, _) => {
                    let id = self.targets.len() as u32;
                    self.targets.push(targets.clone());
                    self.scopes[level].names.insert(name.clone(), Entity::Targets(id));
                }
                Stmt::Prototype { name, .. } => {
                    let id = self.targets.len() as u32;
                    self.targets.push(Vec::new());
                    self.scopes[level].names.insert(name.clone(), Entity::Targets(id));
                }
                _ => {}
            }
        }
        for statement in statements {
            self.statement(statement)?;
        }
        self.scopes.pop();
        Ok(())
    }

    fn statement(&mut self, statement: &Stmt) -> Result<(), PtxError> {
        match statement {
            Stmt::Label(name, span) => {
                if let Some(Entity::Label(id)) = self.lookup(name) {
                    if self.labels[id as usize].is_some() {
                        return Err(self.error(*span, format!("label `{name}` is defined twice")));
                    }
                    self.labels[id as usize] = Some(self.program.code.len() as u32);
                }
                Ok(())
            }
            Stmt::Variable(variable) => self.declare(variable, &Module::default()),
            Stmt::Block(statements) => self.block(statements),
            Stmt::Inst(inst) => self.instruction(inst),
            Stmt::Targets(..) | Stmt::Prototype { .. } => Ok(()),
        }
    }

    fn instruction(&mut self, ast: &ast::Instruction) -> Result<(), PtxError> {
        let base = ast.opcode.split('.').next().unwrap_or("");
        let Some((_, family)) = FAMILIES.iter().find(|(name, _)| *name == base) else {
            return Err(self.unknown(base, ast));
        };
        if !self.opcodes.contains_key(&ast.opcode) && !forms::is_supported(&ast.opcode) {
            return Err(self.unknown_form(ast));
        }
        let mut ins = Ins::new(self, ast);
        let op = family(&mut ins)?;
        ins.finish()?;
        let flow = std::mem::take(&mut ins.flow);
        let guard = match &ast.guard {
            None => None,
            Some((name, negated)) => match self.lookup(name) {
                Some(Entity::Pred(pred)) => Some((pred, *negated)),
                _ => {
                    return Err(
                        self.error(ast.span, format!("guard `{name}` is not a declared predicate"))
                    );
                }
            },
        };
        let line = self.line(ast.span);
        let opcode = self.opcode_index(&ast.opcode);
        let is_move = base == "mov";
        self.program.has_wgmma |= base == "wgmma";
        self.program.has_async_reads |=
            base == "wgmma" || matches!(op, Op::Bulk(_) | Op::BulkTensor(_));
        self.program.code.push(Inst { op, guard, line, opcode, is_move, flow });
        Ok(())
    }

    fn unknown(&self, base: &str, ast: &ast::Instruction) -> PtxError {
        let span = Span { start: ast.span.start, end: ast.span.end };
        match forms::UNSUPPORTED.iter().find(|(name, _)| *name == base) {
            Some((_, why)) => {
                self.error(span, format!("`{}` is not supported ({why})", ast.opcode))
            }
            None => self.error(span, format!("unknown instruction `{}`", ast.opcode)),
        }
    }

    fn unknown_form(&self, ast: &ast::Instruction) -> PtxError {
        let message = match forms::foreign_modifier(&ast.opcode) {
            Some(modifier) => {
                format!("modifier `.{modifier}` is not supported in `{}`", ast.opcode)
            }
            None => format!("`{}` is not supported in this form", ast.opcode),
        };
        self.error(ast.span, message).with_help("docs/ptx-opcodes.md lists the forms that are")
    }

    fn line(&self, span: Span) -> u32 {
        self.lines.partition_point(|&start| start <= span.start as usize) as u32
    }

    fn opcode_index(&mut self, opcode: &str) -> u32 {
        if let Some(&i) = self.opcodes.get(opcode) {
            return i;
        }
        let i = self.program.opcodes.len() as u32;
        self.program.opcodes.push(opcode.to_string());
        self.opcodes.insert(opcode.to_string(), i);
        i
    }

    // --- labels and calls -----------------------------------------------------------------

    /// The id of a label, to be resolved at the end of the function.
    pub(crate) fn label(&mut self, name: &str, span: Span) -> Result<u32, PtxError> {
        match self.lookup(name) {
            Some(Entity::Label(id)) => {
                self.label_uses.push((id, span));
                Ok(id)
            }
            _ => Err(self.error(span, format!("no label `{name}` in this function"))),
        }
    }

    fn resolve_labels(&mut self) -> Result<(), PtxError> {
        for (id, span) in std::mem::take(&mut self.label_uses) {
            if self.labels[id as usize].is_none() {
                return Err(self.error(span, "this label is in another scope"));
            }
        }
        let start = self.program.functions[self.current as usize].entry.unwrap_or(0) as usize;
        let at = |labels: &[Option<u32>], id: u32| labels[id as usize].unwrap_or(0);
        for inst in &mut self.program.code[start..] {
            match &mut inst.op {
                Op::Bra(target) => *target = at(&self.labels, *target),
                Op::BrxIdx { targets, .. } => {
                    targets.iter_mut().for_each(|t| *t = at(&self.labels, *t))
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The function or builtin that a direct call names.
    pub(crate) fn callee(&mut self, name: &str) -> Option<CallTarget> {
        if let Some((_, builtin)) = BUILTINS.iter().find(|(n, _)| *n == name) {
            return Some(CallTarget::Builtin(*builtin));
        }
        match self.lookup(name)? {
            Entity::Function(index) => {
                let current = self.current as usize;
                self.program.functions[current].callees.push(index);
                Some(CallTarget::Function(index))
            }
            Entity::Reg(slot, 64) => {
                let current = self.current as usize;
                self.program.functions[current].calls_indirectly = true;
                Some(CallTarget::Register(slot))
            }
            _ => None,
        }
    }

    /// Bytes of the frame variable at `offset`, found by name.
    pub(crate) fn frame_variable(&mut self, name: &str) -> Option<u32> {
        match self.lookup(name)? {
            Entity::Frame(offset, _) => Some(offset),
            _ => None,
        }
    }

    // --- the end --------------------------------------------------------------------------

    fn finish(mut self) -> Result<Program, PtxError> {
        if let Some(f) =
            self.program.functions.iter().find(|f| f.entry.is_none() && is_called(&self.program, f))
        {
            let known = BUILTINS.iter().any(|(n, _)| *n == f.name);
            if !known {
                return Err(self.error(f.span, format!("`{}` is called but has no body", f.name)));
            }
        }
        mark_recursion(&mut self.program);
        super::guess::mark(&mut self.program.code);
        self.program.static_shared = self.dynamic_base;
        Ok(self.program)
    }
}

/// Bytes of all static shared variables, laid out as [`Body::place_shared`] will.
fn static_shared(module: &Module, mut top: u32) -> u32 {
    fn walk(statements: &[Stmt], top: &mut u32) {
        for statement in statements {
            match statement {
                Stmt::Variable(variable) => add(variable, top),
                Stmt::Block(inner) => walk(inner, top),
                _ => {}
            }
        }
    }
    fn add(variable: &Variable, top: &mut u32) {
        if variable.space == Space::Shared && variable.elements.is_some_and(|n| n > 0) {
            let align = variable.align.max(u64::from(variable.ty.bytes())).max(1) as u32;
            *top = top.next_multiple_of(align) + variable_bytes(variable) + SHARED_GAP;
        }
    }
    module.variables.iter().for_each(|v| add(v, &mut top));
    module.functions.iter().for_each(|f| walk(f.body.as_deref().unwrap_or(&[]), &mut top));
    top.next_multiple_of(1024)
}

fn is_called(program: &Program, function: &Function) -> bool {
    let index = program.functions.iter().position(|f| f.name == function.name).unwrap_or(0) as u32;
    program.functions.iter().any(|f| f.callees.contains(&index))
}

/// Marks functions on a cycle of the call graph; an indirect call may reach any device function.
fn mark_recursion(program: &mut Program) {
    let n = program.functions.len();
    let edges: Vec<Vec<usize>> = program
        .functions
        .iter()
        .map(|f| {
            let mut to: Vec<usize> = f.callees.iter().map(|&c| c as usize).collect();
            if f.calls_indirectly {
                to.extend((0..n).filter(|&i| !program.functions[i].is_entry));
            }
            to
        })
        .collect();
    for start in 0..n {
        let mut seen = vec![false; n];
        let mut stack = edges[start].clone();
        while let Some(at) = stack.pop() {
            if !std::mem::replace(&mut seen[at], true) {
                stack.extend(&edges[at]);
            }
        }
        program.functions[start].recursive = seen[start];
    }
}

fn variable_bytes(variable: &Variable) -> u32 {
    let element = u64::from(variable.ty.bytes()) * u64::from(variable.vector);
    u32::try_from(element * variable.elements.unwrap_or(0)).unwrap_or(u32::MAX / 4).min(1 << 24)
}

/// Appends `bytes` zero bytes at an aligned place.
fn place(memory: &mut Vec<u8>, align: u64, bytes: u64) -> u64 {
    let at = (memory.len() as u64).next_multiple_of(align.max(1));
    memory.resize((at + bytes) as usize, 0);
    at
}

/// Special registers whose value does not change while a warp runs.
fn parse_special(name: &str) -> Option<Special> {
    let axis = |prefix: &str| -> Option<u8> {
        match name.strip_prefix(prefix)? {
            ".x" => Some(0),
            ".y" => Some(1),
            ".z" => Some(2),
            ".w" => Some(3),
            _ => None,
        }
    };
    if let Some(a) = axis("%tid") {
        return Some(if a < 3 { Special::Tid(a) } else { Special::Zero });
    }
    if let Some(a) = axis("%ctaid") {
        return Some(if a < 3 { Special::Ctaid(a) } else { Special::Zero });
    }
    type Axis = fn(u8) -> Special;
    let counted: [(&str, Axis); 6] = [
        ("%ntid", Special::Ntid),
        ("%nctaid", Special::Nctaid),
        ("%clusterid", Special::ClusterId),
        ("%nclusterid", Special::NClusterId),
        ("%cluster_ctaid", Special::ClusterCtaid),
        ("%cluster_nctaid", Special::ClusterNctaid),
    ];
    for (prefix, make) in counted {
        if let Some(a) = axis(prefix).filter(|&a| a < 3) {
            return Some(make(a));
        }
    }
    Some(match name {
        "%laneid" => Special::LaneId,
        "%warpid" => Special::WarpId,
        "%nwarpid" => Special::NWarpId,
        "%smid" => Special::SmId,
        "%nsmid" => Special::NSmId,
        "%gridid" => Special::GridId,
        "%lanemask_eq" => Special::LaneMaskEq,
        "%lanemask_le" => Special::LaneMaskLe,
        "%lanemask_lt" => Special::LaneMaskLt,
        "%lanemask_ge" => Special::LaneMaskGe,
        "%lanemask_gt" => Special::LaneMaskGt,
        "%dynamic_smem_size" => Special::DynamicShared,
        "%total_smem_size" => Special::TotalShared,
        "%aggr_smem_size" => Special::AggrShared,
        "%is_explicit_cluster" => Special::IsExplicitCluster,
        "%cluster_ctarank" => Special::ClusterCtarank,
        "%cluster_nctarank" => Special::ClusterNctarank,
        "WARP_SZ" => return None,
        name if name.starts_with("%envreg") => Special::Zero,
        _ => return None,
    })
}
