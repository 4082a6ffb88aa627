//! Calls, returns and the routines that every CUDA program may call.

use super::engine::Engine;
use super::step::Then;
use super::unit::Unit;
use super::warp::{Frame, Stack, Warp, lanes_of};
use crate::check::FindingKind;
use crate::program::{Builtin, Call, CallTarget, Formal, Passed};
use crate::types::window;

/// Calls nested deeper than this overflow the stack.
const MAX_DEPTH: u16 = 1024;

impl Stack {
    /// Makes the memory as large as the frames on it.
    pub(crate) fn grow(&mut self) {
        let top = self.top as usize;
        if self.memory.len() < top {
            let poison = crate::memory::POISON.to_le_bytes();
            let from = self.memory.len();
            self.memory.extend((from..top).map(|i| poison[i % 4]));
            let mut written = crate::check::shadow::Written::new(top);
            for at in 0..from {
                if !self.written.none(at, 1) {
                    written.set(at, 1, true);
                }
            }
            self.written = written;
        }
    }

    /// Forgets what an earlier call left in `from..to`.
    fn fresh(&mut self, from: u32, to: u32) {
        self.grow();
        (from as usize..to as usize).for_each(|at| self.written.set(at, 1, false));
    }
}

impl Unit {
    pub(crate) fn call(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        active: u32,
        idle: u32,
        call: &Call,
    ) -> Then {
        let next = pc + 1;
        lanes_of(idle).for_each(|l| self.warps[w].pcs[l] = next);
        if let CallTarget::Builtin(builtin) = call.target {
            self.builtin(engine, w, pc, active, builtin, call);
            lanes_of(active).for_each(|l| self.warps[w].pcs[l] = next);
            return Then::Pick;
        }
        for lane in lanes_of(active) {
            let function = match call.target {
                CallTarget::Function(index) => index,
                CallTarget::Register(slot) => {
                    let address = self.warps[w].regs.u64_at(slot, lane);
                    (address.wrapping_sub(window::CODE) / 16).min(u64::from(u32::MAX)) as u32
                }
                CallTarget::Builtin(_) => continue,
            };
            self.enter(engine, w, pc, lane, function, call);
        }
        Then::Pick
    }

    fn enter(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        lane: usize,
        function: u32,
        call: &Call,
    ) {
        let target = engine.program.functions.get(function as usize);
        let Some((callee, entry)) = target.and_then(|f| f.entry.map(|e| (f, e))) else {
            self.report(engine, FindingKind::BadOperand, (w, lane, pc), None, || {
                "a call to something that is no function".into()
            });
            self.warps[w].pcs[lane] = pc + 1;
            return;
        };
        let warp = &mut self.warps[w];
        if warp.depth[lane] >= MAX_DEPTH {
            self.report(engine, FindingKind::Trap, (w, lane, pc), None, || {
                format!("{MAX_DEPTH} nested calls")
            });
            self.aborted = true;
            return;
        }
        let frame_slot = engine.program.frame_slot;
        let old_base = warp.regs.u64_at(frame_slot, lane);
        let old_top = warp.stack(lane).top;
        let base = old_top.next_multiple_of(16);
        let mut frame = Frame {
            return_pc: pc + 1,
            call_pc: pc,
            function,
            base: old_base,
            top: old_top,
            saved: Vec::new(),
            saved_preds: Vec::new(),
        };
        let args: Vec<Vec<u8>> = call
            .args
            .iter()
            .zip(&callee.params)
            .map(|(a, f)| warp.passed_bytes(lane, old_base, a, f))
            .collect();
        if callee.recursive {
            frame.saved =
                (callee.rows.0..callee.rows.1).map(|r| warp.regs.u32_at(r, lane)).collect();
            let bit = |p: u32| warp.regs.preds[p as usize] >> lane & 1 != 0;
            frame.saved_preds = (callee.preds.0..callee.preds.1).map(bit).collect();
        }
        let stack = warp.stack(lane);
        stack.top = base + callee.frame;
        stack.fresh(base, base + callee.frame);
        stack.frames.push(frame);
        warp.depth[lane] += 1;
        warp.regs.set_u64(frame_slot, lane, u64::from(base));
        for (bytes, formal) in args.iter().zip(&callee.params) {
            warp.store_formal(lane, u64::from(base), formal, bytes);
        }
        warp.pcs[lane] = entry;
    }

    pub(crate) fn ret(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        active: u32,
        idle: u32,
    ) -> Then {
        let warp = &mut self.warps[w];
        let outermost = lanes_of(active).filter(|&l| warp.depth[l] == 0).fold(0, |m, l| m | 1 << l);
        if outermost != 0 {
            // All lanes of a group are at the same depth.
            return self.exit(engine, w, pc, active, idle);
        }
        lanes_of(idle).for_each(|l| warp.pcs[l] = pc + 1);
        for lane in lanes_of(active) {
            self.leave(engine, w, lane);
        }
        Then::Pick
    }

    fn leave(&mut self, engine: &Engine, w: usize, lane: usize) {
        let program = engine.program;
        let warp = &mut self.warps[w];
        let Some(frame) = warp.stack(lane).frames.pop() else { return };
        let callee = &program.functions[frame.function as usize];
        let base = warp.regs.u64_at(program.frame_slot, lane);
        let crate::program::Op::Call(call) = &program.code[frame.call_pc as usize].op else {
            return;
        };
        let results: Vec<Vec<u8>> =
            callee.returns.iter().map(|f| warp.formal_bytes(lane, base, f)).collect();
        for (i, value) in frame.saved.iter().enumerate() {
            warp.regs.set_u32(callee.rows.0 + i as u32, lane, *value);
        }
        for (i, value) in frame.saved_preds.iter().enumerate() {
            warp.regs.put_pred(callee.preds.0 + i as u32, 1 << lane, u32::from(*value) << lane);
        }
        warp.regs.set_u64(program.frame_slot, lane, frame.base);
        warp.stack(lane).top = frame.top;
        warp.depth[lane] -= 1;
        warp.pcs[lane] = frame.return_pc;
        for (bytes, place) in results.iter().zip(&call.returns) {
            match *place {
                Passed::Frame { offset } => {
                    warp.store_local(lane, frame.base + u64::from(offset), bytes)
                }
                Passed::Register { slot, rows } => warp.store_rows(lane, slot, rows, bytes),
            }
        }
    }

    fn builtin(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        active: u32,
        builtin: Builtin,
        call: &Call,
    ) {
        for lane in lanes_of(active) {
            let warp = &mut self.warps[w];
            let base = warp.regs.u64_at(engine.program.frame_slot, lane);
            let word = Formal::Frame { offset: 0, bytes: 8 };
            let args: Vec<u64> = call
                .args
                .iter()
                .map(|a| {
                    let mut bytes = warp.passed_bytes(lane, base, a, &word);
                    bytes.resize(8, 0);
                    u64::from_le_bytes(bytes.try_into().unwrap_or_default())
                })
                .collect();
            let result = match builtin {
                Builtin::Assert => {
                    let message = self.text_at(engine, args.first().copied().unwrap_or(0));
                    self.report(engine, FindingKind::Trap, (w, lane, pc), None, || {
                        format!("assertion failed: {message}")
                    });
                    0
                }
                Builtin::Printf => {
                    let text = self.format(engine, (w, lane, pc), &args);
                    engine.printed.lock().unwrap_or_else(|p| p.into_inner()).push_str(&text);
                    0
                }
                Builtin::Malloc => engine.globals.malloc(args.first().copied().unwrap_or(0)),
                Builtin::Free => 0,
            };
            let warp = &mut self.warps[w];
            if let Some(place) = call.returns.first() {
                let bytes = result.to_le_bytes();
                let width = if builtin == Builtin::Malloc { 8 } else { 4 };
                match *place {
                    Passed::Frame { offset } => {
                        warp.store_local(lane, base + u64::from(offset), &bytes[..width])
                    }
                    Passed::Register { slot, rows } => {
                        warp.store_rows(lane, slot, rows, &bytes[..width])
                    }
                }
            }
        }
    }

    /// A zero-terminated text in global or constant memory.
    fn text_at(&self, engine: &Engine, address: u64) -> String {
        let mut text = Vec::new();
        for at in address..address + 1024 {
            let mut byte = [0];
            match super::access::resolve(at) {
                (crate::types::Space::Const, offset) => {
                    byte[0] = engine.program.const_bytes.get(offset as usize).copied().unwrap_or(0);
                }
                _ => {
                    if let Some((buffer, offset)) = engine.globals.find(at, 1) {
                        buffer.read(offset, &mut byte);
                    }
                }
            }
            if byte[0] == 0 {
                break;
            }
            text.push(byte[0]);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// `vprintf(format, arguments)`: the arguments are packed at their natural alignment.
    fn format(
        &mut self,
        engine: &Engine,
        (w, lane, pc): super::report::Who,
        args: &[u64],
    ) -> String {
        let format = self.text_at(engine, args.first().copied().unwrap_or(0));
        let mut at = args.get(1).copied().unwrap_or(0);
        let mut out = String::new();
        let mut chars = format.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut spec = String::new();
            for c in chars.by_ref() {
                spec.push(c);
                if c.is_ascii_alphabetic() && !matches!(c, 'l' | 'h' | 'z') || c == '%' {
                    break;
                }
            }
            let kind = spec.chars().last().unwrap_or('%');
            if kind == '%' {
                out.push('%');
                continue;
            }
            let wide = matches!(kind, 'f' | 'g' | 'e' | 's' | 'p') || spec.contains('l');
            let bytes = if wide { 8 } else { 4 };
            at = at.next_multiple_of(bytes);
            let mut word = [0u8; 8];
            let place = super::access::resolve(at);
            self.read(
                engine,
                (w, lane, pc),
                place,
                &mut word[..bytes as usize],
                bytes as usize,
                Default::default(),
            );
            at += bytes;
            let value = u64::from_le_bytes(word);
            match kind {
                'd' | 'i' if wide => out.push_str(&(value as i64).to_string()),
                'd' | 'i' => out.push_str(&(value as i32).to_string()),
                'x' | 'X' => out.push_str(&format!("{value:x}")),
                'p' => out.push_str(&format!("{value:#x}")),
                'c' => out.push(value as u8 as char),
                's' => out.push_str(&self.text_at(engine, value)),
                'f' | 'g' | 'e' => out.push_str(&f64::from_bits(value).to_string()),
                _ => out.push_str(&value.to_string()),
            }
        }
        out
    }
}

impl Warp {
    fn passed_bytes(
        &mut self,
        lane: usize,
        base: u64,
        passed: &Passed,
        formal: &Formal,
    ) -> Vec<u8> {
        let want = match *formal {
            Formal::Frame { bytes, .. } => bytes as usize,
            Formal::Register { rows, .. } => rows as usize * 4,
        };
        match *passed {
            Passed::Frame { offset } => self.local_bytes(lane, base + u64::from(offset), want),
            Passed::Register { slot, rows } => self.row_bytes(lane, slot, rows),
        }
    }

    fn formal_bytes(&mut self, lane: usize, base: u64, formal: &Formal) -> Vec<u8> {
        match *formal {
            Formal::Frame { offset, bytes } => {
                self.local_bytes(lane, base + u64::from(offset), bytes as usize)
            }
            Formal::Register { slot, rows } => self.row_bytes(lane, slot, rows),
        }
    }

    fn store_formal(&mut self, lane: usize, base: u64, formal: &Formal, bytes: &[u8]) {
        match *formal {
            Formal::Frame { offset, bytes: n } => {
                let n = bytes.len().min(n as usize);
                self.store_local(lane, base + u64::from(offset), &bytes[..n]);
            }
            Formal::Register { slot, rows } => self.store_rows(lane, slot, rows, bytes),
        }
    }

    fn row_bytes(&self, lane: usize, slot: u32, rows: u32) -> Vec<u8> {
        (0..rows).flat_map(|r| self.regs.u32_at(slot + r, lane).to_le_bytes()).collect()
    }

    fn store_rows(&mut self, lane: usize, slot: u32, rows: u32, bytes: &[u8]) {
        for r in 0..rows {
            let mut word = [0; 4];
            let part = bytes.get(r as usize * 4..).unwrap_or(&[]);
            let n = part.len().min(4);
            word[..n].copy_from_slice(&part[..n]);
            self.regs.set_u32(slot + r, lane, u32::from_le_bytes(word));
            self.regs.set_undefined(slot + r, 1 << lane, 0);
        }
    }

    fn local_bytes(&mut self, lane: usize, at: u64, bytes: usize) -> Vec<u8> {
        let stack = self.stack(lane);
        stack.grow();
        let at = at as usize;
        let mut out =
            stack.memory.get(at..(at + bytes).min(stack.memory.len())).unwrap_or(&[]).to_vec();
        out.resize(bytes, 0);
        out
    }

    fn store_local(&mut self, lane: usize, at: u64, bytes: &[u8]) {
        let stack = self.stack(lane);
        stack.grow();
        let at = at as usize;
        if let Some(place) = stack.memory.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
            (0..bytes.len()).for_each(|i| stack.written.set(at + i, 1, true));
        }
    }
}
