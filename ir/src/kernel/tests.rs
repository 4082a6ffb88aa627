//! The text form is read back unchanged, errors name their place, the verifier sees every rule
//! broken, and the interpreter computes what the program says.

use proptest::prelude::*;

use super::*;

const RMS_NORM: &str = r#"kernel rms_norm "h.3 = rms_norm(x, n1; D)" {
  read x: f32[120]
  read w: f32[40]
  write y: bf16[360]
  scalar l
  var r: 3 / 1
  var d: 40 / 16
  grid r

  %0: f32[d] = 0.0
  loop d carry (%1: f32[d] = %0 -> %2) {
    %3: f32[r, d] = load x[40*r + d]
    %4: f32[r, d] = mul %3, %3
    %5: f32[r, d] = add %1, %4
    %6: f32[d] = reduce sum %5 along r
    next %6
  }
  %7: f32 = reduce sum %2 along d
  %8: f32 = 40.0
  %9: f32 = div %7, %8
  %10: f32 = sqrt %9
  loop d {
    %11: f32[r, d] = load x[40*r + d]
    %12: f32[d] = load w[d]
    %13: f32[r, d] = mul %11, %12
    %14: f32[r, d] = div %13, %10
    store y[120*l + 40*r + d] = %14
  }
}
"#;

fn kernel(text: &str) -> Kernel {
    Kernel::parse(text).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn text_round_trips() {
    let parsed = kernel(RMS_NORM);
    assert_eq!(parsed.verify(), Ok(()));
    assert_eq!(parsed.to_string(), RMS_NORM);
}

#[test]
fn every_expression_round_trips() {
    let text = r#"kernel all "quote \" backslash \\ end" {
  read a: i32[64]
  update b: f32[64]
  local c: bool[64]
  scalar l
  var i: 64 / 16
  var j: 4 / 4
  grid i

  %0: i32[i] = load a[i]
  %1: i32[i] = index -3*%0 + i/4%2 + 2*i%8 - l - 7
  %2: i32 = -5
  %3: bool[i] = lt %1, %2
  %4: f32[i] = load b[i] where %3
  %5: f32 = -inf
  %6: f32[i] = noise 17 (%0, %1)
  %7: f32[i, j] = 1e-8
  %8: f32[i] = dot %7, %7 along j
  %9: f32[i] = reduce max %7 along j
  %10: bool = true
  %11: f32[i] = where %3, %9, %8
  store b[i] += %11 where %3
  store c[i] = %3
}
"#;
    let parsed = kernel(text);
    assert_eq!(parsed.verify(), Ok(()));
    assert_eq!(parsed.to_string(), text);
}

#[test]
fn syntax_errors_name_their_place() {
    for (from, to, expect) in [
        ("grid r", "grid r ; no more\n  ?", "9:3: expected `}`"),
        ("mul %3, %3", "mull %3, %3", "13:21: `mull` is no operation"),
        ("load w[d]", "load ww[d]", "24:24: `ww` is no buffer"),
        ("40*r + d]", "40*r + e]", "12:35: `e` is no variable and no scalar"),
        ("%8: f32", "%7: f32", "19:3: %7 is defined a second time"),
        ("next %6", "", "17:3: expected `next` with 1 values"),
        ("3 / 1", "3", "7:3: expected `/`"),
        ("40.0", "forty", "19:13: `forty` is no operation"),
    ] {
        let error = Kernel::parse(&RMS_NORM.replacen(from, to, 1)).expect_err(to).to_string();
        assert!(error.starts_with(expect), "{error}, expected {expect}");
    }
}

/// Text to replace, its replacement, and how the errors begin.
const VIOLATIONS: &[(&str, &str, &[&str])] = &[
    ("scalar l", "scalar l scalar l", &["the name `l` is declared twice"]),
    ("var r: 3 / 1", "var r: 3 / 0", &["variable `r` has extent or tile zero"]),
    ("mul %3, %3", "mul %5, %5", &["%5 is used where it is not defined"]),
    ("div %7, %8", "div %3, %8", &["%3 is used where it is not defined"]),
    ("%12: f32[d]", "%12: i32[d]", &["%12 has type i32[d], expected f32[d]"]),
    ("sum %2 along d", "sum %2 along r", &["%7: sum does not take these operands"]),
    ("loop d {", "loop r {", &["loop over `r`", "%11: `d` has no position here"]),
    ("%9: f32", "when %8 %9: f32", &["`when %8` stands not first in a loop", "when does not take"]),
    ("store y", "when %13 store y", &["%13: when does not take these operands"]),
    ("store y", "store y[0] = %8 when %13 store y", &["`when %13` stands not first"]),
    ("store y", "store x", &["buffer `x` is not declared for this access"]),
    ("x: f32[120]", "x: f32[119]", &["`x`: offsets 0 to 119, but it has 119 elements"]),
    ("120*l + 40*r + d", "120*l + d", &["store to `y`", "does not tell positions of `r` apart"]),
    ("120*l + 40*r + d", "120*l + 39*r + d", &["does not tell positions of `r` apart"]),
    ("120*l + 40*r + d", "120*l + 40*r + d/2", &["does not tell positions of `d` apart"]),
];

#[test]
fn verifier_reports_violations() {
    for (from, to, expect) in VIOLATIONS {
        let text = RMS_NORM.replacen(from, to, 1);
        let Ok(parsed) = Kernel::parse(&text) else { panic!("{to} does not parse") };
        let errors = parsed.verify().expect_err(to);
        let text: Vec<String> = errors.iter().map(KernelError::to_string).collect();
        for part in *expect {
            assert!(text.iter().any(|e| e.contains(part)), "{to}: {text:?}");
        }
    }
}

/// A local buffer holds one tile of a grid variable, whose positions need to be told apart within it alone.
#[test]
fn local_buffers_hold_a_tile_of_rows() {
    let text = r#"kernel rows "" {
  read x: f32[600]
  write y: f32[600]
  local l: f32[40]
  var r: 60 / 4
  var d: 10 / 16
  grid r

  loop d {
    %0: f32[r, d] = load x[10*r + d]
    store l[10*r%4 + d] = %0
    store y[10*r + d] = %0
  }
}
"#;
    assert_eq!(kernel(text).verify(), Ok(()));
    for (from, to) in [("10*r%4", "10*r%3"), ("10*r%4", "9*r%4"), ("y[10*r + d]", "y[10*r%4 + d]")]
    {
        let errors = kernel(&text.replace(from, to)).verify().expect_err(to);
        let race = |e: &KernelError| matches!(e, KernelError::Race { .. });
        assert!(errors.iter().any(race), "{to}: {errors:?}");
    }
}

#[test]
fn interpreter_computes_the_norm_and_keeps_ragged_lanes_out() {
    let x: Vec<f64> = (0..120).map(|i| f64::from(i % 7) - 2.5).collect();
    let w: Vec<f64> = (0..40).map(|i| f64::from(i) / 8.0).collect();
    let mut arguments = [x.clone(), w.clone(), vec![0.0; 360]];
    kernel(RMS_NORM).interpret(&mut arguments, &[2], Arithmetic::F64).expect("arguments fit");
    for r in 0..3 {
        let row = &x[40 * r..40 * (r + 1)];
        let scale = (row.iter().map(|x| x * x).sum::<f64>() / 40.0).sqrt();
        for d in 0..40 {
            // The buffer holds bf16.
            let expected = half::bf16::from_f64(row[d] * w[d] / scale).to_f64();
            assert_eq!(arguments[2][240 + 40 * r + d], expected, "row {r}, column {d}");
        }
    }
    assert_eq!(arguments[2][..240], vec![0.0; 240]);
}

#[test]
fn interpreter_refuses_what_does_not_fit() {
    let mut arguments = [vec![0.0; 120], vec![0.0; 39], vec![0.0; 360]];
    let run = |arguments: &mut [Vec<f64>], l| {
        kernel(RMS_NORM).interpret(arguments, &[l], Arithmetic::F32).expect_err("does not fit")
    };
    assert_eq!(run(&mut arguments, 0), InterpretError::Argument(1));
    arguments[1].push(0.0);
    let outside = InterpretError::Bounds { buffer: "y".to_owned(), offset: 360 };
    assert_eq!(run(&mut arguments, 3), outside);
}

/// Offsets over two variables, a scalar and an int tile.
fn offset() -> impl Strategy<Value = Offset> {
    let digit = (0..2u32, 1..9u64, prop_oneof![Just(0u64), 2..9u64])
        .prop_map(|(var, divisor, modulus)| Factor::Digit { var: VarId(var), divisor, modulus });
    let factor = prop_oneof![digit, Just(Factor::Scalar(0)), Just(Factor::Tile(TileId(0)))];
    let term =
        (any::<i64>(), factor).prop_map(|(coefficient, factor)| Term { coefficient, factor });
    (any::<i64>(), proptest::collection::vec(term, 0..4))
        .prop_map(|(constant, terms)| Offset { constant, terms })
}

fn expr() -> impl Strategy<Value = Expr> {
    let value = || (0..4u32).prop_map(TileId);
    let op = (0..crate::pointwise::POINTWISE.len()).prop_map(|i| crate::pointwise::POINTWISE[i].op);
    prop_oneof![
        any::<f64>().prop_filter("NaN equals nothing", |x| !x.is_nan()).prop_map(Expr::Real),
        any::<i32>().prop_map(Expr::Int),
        any::<bool>().prop_map(Expr::Bool),
        offset().prop_map(Expr::Index),
        (offset(), proptest::option::of(value())).prop_map(|(offset, mask)| Expr::Load {
            buffer: BufferId(0),
            offset,
            mask
        }),
        (op, proptest::collection::vec(value(), 1..4)).prop_map(|(op, v)| Expr::Pointwise(op, v)),
        value().prop_map(|v| Expr::Reduce(Reduction::Max, v, VarId(1))),
        (value(), value()).prop_map(|(a, b)| Expr::Dot(a, b, VarId(0))),
        (any::<u32>(), proptest::collection::vec(value(), 1..5))
            .prop_map(|(key, counter)| Expr::Noise { key, counter }),
    ]
}

/// A kernel that is well formed as a text; types and scopes need not make sense.
fn any_kernel() -> impl Strategy<Value = Kernel> {
    let types = (0..3usize, 0..4u32).prop_map(|(scalar, vars)| TileType {
        scalar: [Scalar::F32, Scalar::I32, Scalar::Bool][scalar],
        vars: (0..2).filter(|v| vars >> v & 1 == 1).map(VarId).collect(),
    });
    let lets = proptest::collection::vec((expr(), types), 4..12);
    (".*", lets, offset(), any::<bool>()).prop_map(|(origin, lets, offset, accumulate)| {
        let (exprs, mut values): (Vec<_>, Vec<_>) = lets.into_iter().unzip();
        let lets = (0..).map(TileId).zip(exprs).map(|(id, expr)| Stmt::Let(id, expr));
        let mut body: Vec<Stmt> = lets.collect();
        let inner = body.split_off(body.len() / 2);
        let last = u32::try_from(values.len()).expect("a short list");
        values.extend([values[0].clone(), values[0].clone()]);
        let carry =
            Carry { init: TileId(0), arg: TileId(last), next: TileId(1), result: TileId(last + 1) };
        let (buffer, value, mask) = (BufferId(0), TileId(2), Some(TileId(3)));
        body.push(Stmt::Loop { var: VarId(1), carried: vec![carry], body: inner });
        body.push(Stmt::Store { buffer, offset, value, mask, accumulate });
        let var = |name: &str| Var { name: name.to_owned(), extent: 9, tile: 4 };
        let buffer = Buffer {
            name: "x".to_owned(),
            storage: Storage::Bf16,
            elements: u64::MAX,
            access: Access::ReadWrite,
            below: None,
        };
        Kernel {
            name: "k".to_owned(),
            origin,
            buffers: vec![buffer],
            scalars: vec!["l".to_owned()],
            vars: vec![var("i"), var("j")],
            grid: vec![VarId(0)],
            values,
            body,
        }
    })
}

proptest! {
    #[test]
    fn any_kernel_round_trips(kernel in any_kernel()) {
        let text = kernel.to_string();
        let parsed = Kernel::parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(parsed, kernel);
        let _ = Kernel::verify(&Kernel::parse(&text).expect("parsed before"));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[kernl %0-9a-z{}\\[\\]:=/\"+*-]{0,80}") {
        let _ = Kernel::parse(&text);
        let _ = Kernel::parse(&format!("{}{text}", &RMS_NORM[..RMS_NORM.len() / 2]));
    }
}
