//! Modules, functions, scopes and labels.

use std::collections::HashMap;

use super::FAMILIES;
use super::declare::{static_shared, variable_bytes};
use super::ins::Ins;
use super::names::{Entity, Scope};
use crate::error::{PtxError, Span};
use crate::forms;
use crate::lanes::{Isa, Pred, Slot};
use crate::program::*;
use crate::syntax::ast::{self, Module, Stmt};
use crate::types::Space;

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
    for function in &module.functions {
        body.declare_function(function)?;
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
    pub(super) text: &'m str,
    pub(super) lines: Vec<usize>,
    pub(super) isa: Isa,
    pub(super) program: Program,
    pub(super) scopes: Vec<Scope>,
    pub(super) constants: HashMap<(u64, u32), Slot>,
    pub(super) specials: HashMap<(Special, u32), Slot>,
    pub(super) opcodes: HashMap<String, u32>,
    pub(super) labels: Vec<Option<u32>>,
    pub(super) label_uses: Vec<(u32, Span)>,
    pub(crate) targets: Vec<Vec<String>>,
    /// Layout of shared memory and frames.
    pub(super) shared_top: u32,
    /// Dynamic shared memory begins where the static variables end, 1024-aligned as on hardware.
    pub(super) dynamic_base: u32,
    pub(super) frame_top: u32,
    pub(crate) current: u32,
    /// Carry flag of `add.cc` and friends.
    pub(crate) carry: Pred,
    pub(super) true_pred: Pred,
    /// Where module memory has the workspace of grid synchronisation, once something asks for it.
    pub(super) workspace: Option<u64>,
    pub(super) aliases_to_function: HashMap<String, u32>,
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

    pub(super) fn opcode_index(&mut self, opcode: &str) -> u32 {
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
