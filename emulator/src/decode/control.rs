//! Branches, calls and the odds and ends.

use super::ins::Ins;
use super::names::Entity;
use crate::error::PtxError;
use crate::program::*;
use crate::syntax::ast::Operand;
use crate::types::Ty;

type Decoded = Result<Op, PtxError>;

pub(super) fn bra(ins: &mut Ins) -> Decoded {
    ins.flag("uni");
    match ins.take()? {
        Operand::Name(name, 0, span) => Ok(Op::Bra(ins.body.label(name, *span)?)),
        _ => ins.error("the target must be a label"),
    }
}

/// `brx.idx index, targets`
pub(super) fn brx(ins: &mut Ins) -> Decoded {
    if !ins.flag("idx") {
        return ins.unsupported();
    }
    ins.flag("uni");
    let index = ins.src(Ty::U32)?;
    let Operand::Name(name, 0, span) = ins.take()? else {
        return ins.error("the targets must be a label");
    };
    let Some(Entity::Targets(list)) = ins.body.lookup(name) else {
        return Err(ins.body.undeclared(name, *span));
    };
    let names = ins.body.targets[list as usize].clone();
    let targets = names.iter().map(|n| ins.body.label(n, *span)).collect::<Result<_, _>>()?;
    Ok(Op::BrxIdx { index, targets })
}

/// `call (returns), function, (arguments), prototype`
pub(super) fn call(ins: &mut Ins) -> Decoded {
    ins.flag("uni");
    let mut returns = Vec::new();
    if let Some(Operand::List(items)) = ins.peek() {
        ins.take()?;
        returns = items.iter().map(|item| passed(ins, item, true)).collect::<Result<_, _>>()?;
    }
    let Operand::Name(name, 0, span) = ins.take()? else {
        return ins.error("the callee must be a name");
    };
    let Some(target) = ins.body.callee(name) else { return Err(ins.body.undeclared(name, *span)) };
    let mut args = Vec::new();
    match ins.peek() {
        Some(Operand::List(items)) => {
            ins.take()?;
            args = items.iter().map(|item| passed(ins, item, false)).collect::<Result<_, _>>()?;
        }
        Some(constant @ Operand::Int(_)) => {
            ins.take()?;
            args.push(passed(ins, constant, false)?);
        }
        _ => {}
    }
    if ins.left() > 0 {
        // Prototype or list of possible callees.
        ins.take()?;
    }
    Ok(Op::Call(Box::new(Call { target, args, returns })))
}

fn passed(ins: &mut Ins, operand: &Operand, is_return: bool) -> Result<Passed, PtxError> {
    match operand {
        Operand::Name(name, 0, _) => {
            if let Some(offset) = ins.body.frame_variable(name) {
                return Ok(Passed::Frame { offset });
            }
            let (slot, bits) =
                if is_return { ins.dst_of(operand, 32)? } else { ins.src_any(operand, Ty::B32)? };
            Ok(Passed::Register { slot, rows: bits.div_ceil(32) })
        }
        Operand::Sink => Ok(Passed::Register { slot: ins.body.scratch(64), rows: 2 }),
        _ => {
            let (slot, _) = ins.src_any(operand, Ty::B64)?;
            Ok(Passed::Register { slot, rows: 2 })
        }
    }
}

pub(super) fn ret(ins: &mut Ins) -> Decoded {
    ins.flag("uni");
    Ok(Op::Ret)
}

pub(super) fn exit(_: &mut Ins) -> Decoded {
    Ok(Op::Exit)
}

pub(super) fn trap(_: &mut Ins) -> Decoded {
    Ok(Op::Trap)
}

pub(super) fn nanosleep(ins: &mut Ins) -> Decoded {
    ins.ty()?;
    ins.src(Ty::U32)?;
    Ok(Op::Sleep)
}

pub(super) fn pmevent(ins: &mut Ins) -> Decoded {
    ins.flag("mask");
    ins.immediate()?;
    Ok(Op::Nop)
}

/// Register budgets have no meaning here.
pub(super) fn setmaxnreg(ins: &mut Ins) -> Decoded {
    ins.choice(&[("inc", ()), ("dec", ())]);
    ins.flag("sync");
    ins.flag("aligned");
    ins.ty()?;
    ins.immediate()?;
    Ok(Op::Nop)
}

/// Grids run one after another, so there is nothing to wait for.
pub(super) fn griddepcontrol(ins: &mut Ins) -> Decoded {
    ins.choice(&[("launch_dependents", ()), ("wait", ())]);
    Ok(Op::Nop)
}

pub(super) fn stacksave(ins: &mut Ins) -> Decoded {
    let ty = ins.ty()?;
    if ty.bits() != 64 {
        return ins.unsupported();
    }
    Ok(Op::StackSave(ins.dst(ty)?))
}

pub(super) fn stackrestore(ins: &mut Ins) -> Decoded {
    let ty = ins.ty()?;
    if ty.bits() != 64 {
        return ins.unsupported();
    }
    Ok(Op::StackRestore(ins.src(ty)?))
}

pub(super) fn alloca(ins: &mut Ins) -> Decoded {
    let ty = ins.ty()?;
    if ty.bits() != 64 {
        return ins.unsupported();
    }
    let (d, size) = (ins.dst(ty)?, ins.src(ty)?);
    let align = if ins.left() > 0 { ins.immediate()? } else { 8 };
    Ok(Op::Alloca { d, size, align: align.clamp(1, 1 << 16).next_power_of_two() })
}
