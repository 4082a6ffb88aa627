//! Operators and pointwise functions: kinds, constants, and the rule of the widest operand.

use std::cmp::Ordering;

use gigac_ir::graph::AxisId;
use gigac_ir::pointwise::Pointwise;

use super::Checker;
use super::value::{Affine, Eval, Failed, Kind, Operand, Value};
use crate::error::{Cause, Report};
use crate::number::Number;
use crate::source::Span;
use crate::syntax::ast::{BinaryOp, UnaryOp};

/// Whole exponents up to this become products.
const MAX_PRODUCT: i64 = 16;

impl Checker {
    pub(crate) fn unary(&mut self, op: UnaryOp, value: Operand, span: Span) -> Eval {
        match (op, self.kind(&value.value)) {
            (UnaryOp::Not, Kind::Bool) => {
                if let Value::Bool(known) = value.value {
                    return Ok(Value::Bool(!known));
                }
                self.apply(Pointwise::Not, &[value], Kind::Bool, Kind::Bool, span)
            }
            (UnaryOp::Not, kind) => self.dtype_error("`!`", "a bool", kind.name(), value.span),
            (UnaryOp::Neg, Kind::Bool) => self.dtype_error("`-`", "a number", "a bool", value.span),
            (UnaryOp::Neg, kind) => {
                if let Value::Number(number) = value.value {
                    return Ok(Value::Number(number.neg()));
                }
                let affine = self.affine_of(&value.value);
                let result = self.apply(Pointwise::Neg, &[value], kind, kind, span)?;
                let negated = affine.map(|a| Affine { start: -a.start, stride: -a.stride, ..a });
                self.note_affine(&result, negated);
                Ok(result)
            }
        }
    }

    pub(crate) fn binary(&mut self, op: BinaryOp, a: Operand, b: Operand, span: Span) -> Eval {
        use BinaryOp::*;
        match op {
            Or | And => self.logic(op, a, b, span),
            Eq | Ne | Lt | Le | Gt | Ge => self.compare(op, a, b, span),
            Add => self.arithmetic(Pointwise::Add, a, b, span),
            Sub => self.arithmetic(Pointwise::Sub, a, b, span),
            Mul => self.arithmetic(Pointwise::Mul, a, b, span),
            Rem => self.arithmetic(Pointwise::Mod, a, b, span),
            Div => self.divide(a, b, span),
            Pow => self.power(a, b, span),
        }
    }

    fn logic(&mut self, op: BinaryOp, a: Operand, b: Operand, span: Span) -> Eval {
        for side in [&a, &b] {
            let kind = self.kind(&side.value);
            if kind != Kind::Bool {
                return self.dtype_error(
                    &format!("`{}`", op.symbol()),
                    "a bool",
                    kind.name(),
                    side.span,
                );
            }
        }
        match (&a.value, &b.value) {
            (Value::Bool(x), Value::Bool(y)) => {
                Ok(Value::Bool(if op == BinaryOp::And { *x && *y } else { *x || *y }))
            }
            (Value::Bool(known), _) => self.known_mask(*known, a.span),
            (_, Value::Bool(known)) => self.known_mask(*known, b.span),
            _ => {
                let function = if op == BinaryOp::And { Pointwise::And } else { Pointwise::Or };
                self.apply(function, &[a, b], Kind::Bool, Kind::Bool, span)
            }
        }
    }

    pub(crate) fn known_mask<T>(&mut self, value: bool, span: Span) -> Eval<T> {
        self.fail(Report::new(Cause::KnownMask { value }, span, "compares sizes or constants"))
    }

    fn compare(&mut self, op: BinaryOp, a: Operand, b: Operand, span: Span) -> Eval {
        if let (Value::Number(x), Value::Number(y)) = (&a.value, &b.value) {
            return Ok(Value::Bool(holds(op, x.compare(*y))));
        }
        if let (Value::Bool(x), Value::Bool(y)) = (&a.value, &b.value)
            && matches!(op, BinaryOp::Eq | BinaryOp::Ne)
        {
            return Ok(Value::Bool((x == y) == (op == BinaryOp::Eq)));
        }
        let kind = self.number_kind(&format!("`{}`", op.symbol()), [&a, &b])?;
        let function = match op {
            BinaryOp::Eq => Pointwise::Eq,
            BinaryOp::Ne => Pointwise::Ne,
            BinaryOp::Lt => Pointwise::Lt,
            BinaryOp::Le => Pointwise::Le,
            BinaryOp::Gt => Pointwise::Gt,
            _ => Pointwise::Ge,
        };
        self.apply(function, &[a, b], kind, Kind::Bool, span)
    }

    /// Int if both are ints, real if one is; bools are an error.
    fn number_kind(&mut self, what: &str, operands: [&Operand; 2]) -> Eval<Kind> {
        let mut common = Kind::Int;
        for operand in operands {
            match self.kind(&operand.value) {
                Kind::Bool => return self.dtype_error(what, "a number", "a bool", operand.span),
                Kind::Real => common = Kind::Real,
                Kind::Int => {}
            }
        }
        Ok(common)
    }

    /// `+ - * %`, `min` and `max`.
    pub(crate) fn arithmetic(
        &mut self,
        function: Pointwise,
        a: Operand,
        b: Operand,
        span: Span,
    ) -> Eval {
        let what = sign(function);
        let kind = self.number_kind(&what, [&a, &b])?;
        if let (Value::Number(x), Value::Number(y)) = (&a.value, &b.value) {
            return self.fold(function, *x, *y, span);
        }
        if let Some(same) = self.unchanged(function, &a, &b, kind) {
            return Ok(same);
        }
        if kind == Kind::Real {
            self.check_widest(&[a.clone(), b.clone()])?;
        }
        let affine = self.affine_result(function, &a.value, &b.value);
        let result = self.apply(function, &[a, b], kind, kind, span)?;
        self.note_affine(&result, affine);
        Ok(result)
    }

    fn fold(&mut self, function: Pointwise, x: Number, y: Number, span: Span) -> Eval {
        let zero = y.compare(Number::ZERO) == Some(Ordering::Equal);
        if zero && matches!(function, Pointwise::Div | Pointwise::Mod) {
            return self.fail(Report::new(Cause::DivideByZero, span, "the divisor is 0"));
        }
        self.defined(
            match function {
                Pointwise::Add => x.add(y),
                Pointwise::Sub => x.sub(y),
                Pointwise::Mul => x.mul(y),
                Pointwise::Div => x.div(y),
                Pointwise::Mod => x.rem(y),
                Pointwise::Min => x.min(y),
                Pointwise::Max => x.max(y),
                _ => x.pow(y),
            },
            span,
        )
    }

    /// A constant result; not-a-number is an error.
    pub(crate) fn defined(&mut self, number: Number, span: Span) -> Eval {
        if number.is_nan() {
            let what = self.sources.text(span).chars().take(40).collect();
            return self.fail(Report::new(Cause::Undefined { what }, span, "not a number"));
        }
        Ok(Value::Number(number))
    }

    /// The operand that `x + 0`, `x · 1` and their like give back, so that defaults in functions cost nothing.
    fn unchanged(
        &self,
        function: Pointwise,
        a: &Operand,
        b: &Operand,
        kind: Kind,
    ) -> Option<Value> {
        let is = |operand: &Operand, number: Number| matches!(operand.value, Value::Number(n) if n.compare(number) == Some(Ordering::Equal));
        let keep = match function {
            Pointwise::Add if is(b, Number::ZERO) => a,
            Pointwise::Add if is(a, Number::ZERO) => b,
            Pointwise::Sub if is(b, Number::ZERO) => a,
            Pointwise::Mul | Pointwise::Div if is(b, Number::ONE) => a,
            Pointwise::Mul if is(a, Number::ONE) => b,
            _ => return None,
        };
        (self.kind(&keep.value) == kind).then(|| keep.value.clone())
    }

    /// `/`: true division, always real.
    fn divide(&mut self, a: Operand, b: Operand, span: Span) -> Eval {
        let kind = self.number_kind("`/`", [&a, &b])?;
        if let (Value::Number(x), Value::Number(y)) = (&a.value, &b.value) {
            return self.fold(Pointwise::Div, *x, *y, span);
        }
        if let Some(same) = self.unchanged(Pointwise::Div, &a, &b, Kind::Real) {
            return Ok(same);
        }
        if let Value::Number(zero) = b.value
            && zero.compare(Number::ZERO) == Some(Ordering::Equal)
        {
            return self.fail(Report::new(Cause::DivideByZero, b.span, "this is 0"));
        }
        if kind == Kind::Real {
            self.check_widest(&[a.clone(), b.clone()])?;
        }
        let quotient = match (&a.value, &b.value) {
            (Value::Tensor(top), Value::Number(n)) if kind == Kind::Int => {
                n.as_whole().filter(|n| *n > 0).map(|n| (*top, n))
            }
            _ => None,
        };
        let result = self.apply(Pointwise::Div, &[a, b], Kind::Real, Kind::Real, span)?;
        if let (Value::Tensor(id), Some(quotient)) = (&result, quotient) {
            self.quotients.insert(*id, quotient);
        }
        Ok(result)
    }

    /// `a ^ b`: small whole exponents are products, `1/2` is a root, all else `pow`.
    fn power(&mut self, a: Operand, b: Operand, span: Span) -> Eval {
        self.number_kind("`^`", [&a, &b])?;
        match (&a.value, &b.value) {
            (Value::Number(x), Value::Number(y)) => self.fold(Pointwise::Pow, *x, *y, span),
            (_, Value::Number(exponent)) => match exponent.as_whole() {
                Some(n) if n.abs() <= MAX_PRODUCT => self.product(a, n, span),
                _ if matches!(exponent, Number::Exact { num: 1, den: 2 }) => {
                    self.apply(Pointwise::Sqrt, &[a], Kind::Real, Kind::Real, span)
                }
                _ => self.apply(Pointwise::Pow, &[a, b], Kind::Real, Kind::Real, span),
            },
            _ => {
                self.check_widest(&[a.clone(), b.clone()])?;
                self.apply(Pointwise::Pow, &[a, b], Kind::Real, Kind::Real, span)
            }
        }
    }

    /// `a` to a whole power, by squaring.
    fn product(&mut self, a: Operand, n: i64, span: Span) -> Eval {
        let one = Operand { value: Value::Number(Number::ONE), span };
        let mut square = a;
        let mut power = one.clone();
        let mut left = n.unsigned_abs();
        while left > 0 {
            if left & 1 == 1 {
                let value = self.arithmetic(Pointwise::Mul, power, square.clone(), span)?;
                power = Operand { value, span };
            }
            left >>= 1;
            if left > 0 {
                let value = self.arithmetic(Pointwise::Mul, square.clone(), square, span)?;
                square = Operand { value, span };
            }
        }
        if n < 0 { self.divide(one, power, span) } else { Ok(power.value) }
    }

    /// `where(c, a, b)`
    pub(crate) fn choice(&mut self, c: Operand, a: Operand, b: Operand, span: Span) -> Eval {
        match self.kind(&c.value) {
            Kind::Bool => {}
            kind => {
                return self.dtype_error("the condition of `where`", "a bool", kind.name(), c.span);
            }
        }
        if let Value::Bool(known) = c.value {
            return self.known_mask(known, c.span);
        }
        let (left, right) = (self.kind(&a.value), self.kind(&b.value));
        let kind = match (left, right) {
            (Kind::Bool, Kind::Bool) => Kind::Bool,
            (Kind::Bool, other) | (other, Kind::Bool) => {
                let odd = if left == Kind::Bool { b.span } else { a.span };
                return self.dtype_error("this branch of `where`", "a bool", other.name(), odd);
            }
            (Kind::Int, Kind::Int) => Kind::Int,
            _ => Kind::Real,
        };
        let wide = |checker: &Self, branch: &Operand| {
            checker.kind(&branch.value) == Kind::Real && !checker.axes_of(&branch.value).is_empty()
        };
        if wide(self, &a) || wide(self, &b) {
            self.check_widest(&[c.clone(), a.clone(), b.clone()])?;
        }
        if let Some(empty) = self.empty_result(&[&c, &a, &b], kind) {
            return Ok(empty);
        }
        let operands = [
            self.tensor(&c.value, Kind::Bool, c.span)?,
            self.tensor(&a.value, kind, a.span)?,
            self.tensor(&b.value, kind, b.span)?,
        ];
        self.emit(gigac_ir::graph::Op::Pointwise(Pointwise::Where), &operands, span)
            .map(Value::Tensor)
    }

    /// `exp`, `log` and the others that take one real.
    pub(crate) fn real_function(&mut self, function: Pointwise, x: Operand, span: Span) -> Eval {
        if self.kind(&x.value) == Kind::Bool {
            return self.dtype_error(
                &format!("`{}`", function.name()),
                "a number",
                "a bool",
                x.span,
            );
        }
        if let Value::Number(number) = x.value {
            let result = match function {
                Pointwise::Sqrt => number.sqrt(),
                _ => number.map(|x| (function.def().eval)(&[x])),
            };
            return self.defined(result, span);
        }
        self.apply(function, &[x], Kind::Real, Kind::Real, span)
    }

    /// `floor`: a real stays real; `floor(a / n)` of an int and a positive whole number is an int.
    pub(crate) fn floor(&mut self, x: Operand, span: Span) -> Eval {
        match (&x.value, self.kind(&x.value)) {
            (_, Kind::Bool) => self.dtype_error("`floor`", "a number", "a bool", x.span),
            (Value::Number(number), _) => Ok(Value::Number(number.floor())),
            (_, Kind::Int) => Ok(x.value),
            (Value::Tensor(id), Kind::Real) => match self.quotients.get(id).copied() {
                Some((top, n)) => {
                    let n = self.builder.int(n);
                    let op = gigac_ir::graph::Op::Pointwise(Pointwise::FloorDiv);
                    self.emit(op, &[top, n], span).map(Value::Tensor)
                }
                None => self.apply(Pointwise::Floor, &[x], Kind::Real, Kind::Real, span),
            },
            _ => self.apply(Pointwise::Floor, &[x], Kind::Real, Kind::Real, span),
        }
    }

    /// Adds a pointwise node: operands become `kind`, the result is `result`.
    pub(crate) fn apply(
        &mut self,
        function: Pointwise,
        operands: &[Operand],
        kind: Kind,
        result: Kind,
        span: Span,
    ) -> Eval {
        if let Some(empty) = self.empty_result(&operands.iter().collect::<Vec<_>>(), result) {
            return Ok(empty);
        }
        let mut ids = Vec::new();
        for operand in operands {
            ids.push(self.tensor(&operand.value, kind, operand.span)?);
        }
        self.emit(gigac_ir::graph::Op::Pointwise(function), &ids, span).map(Value::Tensor)
    }

    /// The empty result of a pointwise function of an empty value.
    fn empty_result(&self, operands: &[&Operand], kind: Kind) -> Option<Value> {
        let any = operands.iter().any(|operand| matches!(operand.value, Value::Empty { .. }));
        any.then(|| Value::Empty { axes: self.union(operands), kind })
    }

    pub(crate) fn union(&self, operands: &[&Operand]) -> Vec<AxisId> {
        let mut axes = Vec::new();
        for axis in operands.iter().flat_map(|operand| self.axes_of(&operand.value)) {
            if !axes.contains(&axis) {
                axes.push(axis);
            }
        }
        axes
    }

    /// One operand must have all axes of the others.
    pub(crate) fn check_widest(&mut self, operands: &[Operand]) -> Eval<()> {
        let all = self.union(&operands.iter().collect::<Vec<_>>());
        let axes: Vec<Vec<AxisId>> =
            operands.iter().map(|operand| self.axes_of(&operand.value)).collect();
        if axes.iter().any(|own| own.len() == all.len()) {
            return Ok(());
        }
        // The two widest operands, and an axis of each that the other lacks.
        let mut order: Vec<usize> = (0..operands.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(axes[*at].len()));
        let lacks = |x: usize, y: usize| axes[y].iter().any(|axis| !axes[x].contains(axis));
        let pairs = order.iter().flat_map(|x| order.iter().map(move |y| (*x, *y)));
        let mut crossing = pairs.filter(|(x, y)| x < y);
        let found = crossing.find(|(x, y)| lacks(*x, *y) && lacks(*y, *x));
        let Some((x, y)) = found else { return Err(Failed) };
        let (first, second) = (self.axes_text(&axes[x]), self.axes_text(&axes[y]));
        let rename = self.rename_advice([&axes[x], &axes[y]]);
        let cause = Cause::Crossing { left: first.clone(), right: second.clone(), rename };
        let report = Report::new(cause, operands[x].span, format!("has axes {first}"));
        self.fail(report.also(operands[y].span, format!("has axes {second}")))
    }

    /// A rename that would bring two operands together: an axis that one lacks, and one of its own of the same size.
    fn rename_advice(&self, [a, b]: [&[AxisId]; 2]) -> String {
        for (own, other) in [(b, a), (a, b)] {
            for missing in other.iter().filter(|axis| !own.contains(axis)) {
                if let Some(same) = own.iter().find(|axis| self.same_size(**axis, *missing)) {
                    let (same, missing) = (self.axis_text(*same), self.axis_text(*missing));
                    return format!("is a rename `[{same} -> {missing}]` missing? ");
                }
            }
        }
        String::new()
    }

    pub(crate) fn affine_of(&self, value: &Value) -> Option<Affine> {
        match value {
            Value::Tensor(id) => self.affine.get(id).copied(),
            _ => None,
        }
    }

    pub(crate) fn note_affine(&mut self, value: &Value, affine: Option<Affine>) {
        if let (Value::Tensor(id), Some(affine)) = (value, affine)
            && affine.stride != 0
        {
            self.affine.insert(*id, affine);
        }
    }

    /// The affine form of a sum, difference or product with a whole number.
    fn affine_result(&self, function: Pointwise, a: &Value, b: &Value) -> Option<Affine> {
        let whole = |value: &Value| match value {
            Value::Number(number) if number.is_exact_whole() => number.as_whole(),
            _ => None,
        };
        let scaled = |x: Affine, factor: i64, shift: i64| {
            Some(Affine {
                axis: x.axis,
                start: x.start.checked_mul(factor)?.checked_add(shift)?,
                stride: x.stride.checked_mul(factor)?,
            })
        };
        match (self.affine_of(a), whole(a), self.affine_of(b), whole(b), function) {
            (Some(x), _, _, Some(n), Pointwise::Add) => scaled(x, 1, n),
            (_, Some(n), Some(x), _, Pointwise::Add) => scaled(x, 1, n),
            (Some(x), _, _, Some(n), Pointwise::Sub) => scaled(x, 1, n.checked_neg()?),
            (_, Some(n), Some(x), _, Pointwise::Sub) => scaled(x, -1, n),
            (Some(x), _, _, Some(n), Pointwise::Mul) => scaled(x, n, 0),
            (_, Some(n), Some(x), _, Pointwise::Mul) => scaled(x, n, 0),
            _ => None,
        }
    }
}

fn sign(function: Pointwise) -> String {
    let sign = match function {
        Pointwise::Add => "+",
        Pointwise::Sub => "-",
        Pointwise::Mul => "*",
        Pointwise::Mod => "%",
        other => other.name(),
    };
    format!("`{sign}`")
}

fn holds(op: BinaryOp, order: Option<Ordering>) -> bool {
    let Some(order) = order else { return op == BinaryOp::Ne };
    match op {
        BinaryOp::Eq => order.is_eq(),
        BinaryOp::Ne => order.is_ne(),
        BinaryOp::Lt => order.is_lt(),
        BinaryOp::Le => order.is_le(),
        BinaryOp::Gt => order.is_gt(),
        _ => order.is_ge(),
    }
}
