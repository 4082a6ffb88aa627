//! Programs of attention, as the former of kernels writes them.

#![allow(dead_code, reason = "each program uses a part")]

use std::fmt::Write;

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    /// All.
    Full,
    /// Those not behind it, `s + shift <= t`.
    Causal(i64),
    /// The last so many, itself included.
    Window(i64),
    /// The first so many, and the last so many, itself included.
    Sinks(i64, i64),
    /// Those of its own document that are not behind it.
    Documents,
}

/// What becomes of the raw product before it is masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Score {
    /// A constant factor.
    Scale,
    /// `2·tanh(x/2)`.
    Cap,
    /// A slope for each head times the distance.
    Alibi,
    /// A number for each head, query and key. Backward, with `trained`, also gives its gradient for each of the batch.
    Bias {
        /// Whether the gradient is wanted.
        trained: bool,
    },
}

/// Queries `[b, t, g, r, c]`, keys `[b, s, g, c]`, values `[b, s, g, e]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention {
    pub(crate) b: u64,
    pub(crate) g: u64,
    pub(crate) r: u64,
    pub(crate) t: u64,
    pub(crate) s: u64,
    pub(crate) c: u64,
    pub(crate) e: u64,
    /// Tiles of queries and keys.
    pub(crate) tiles: [u64; 2],
    pub(crate) mask: Mask,
    pub(crate) score: Score,
    /// Whether all but `lse` and `delta` is bf16, and what is multiplied is rounded to it.
    pub(crate) half: bool,
}

impl Attention {
    /// Attention with as many heads for keys as for queries, scaled.
    pub(crate) fn heads(b: u64, h: u64, t: u64, c: u64, tiles: [u64; 2], mask: Mask) -> Self {
        Self { b, g: h, r: 1, t, s: t, c, e: c, tiles, mask, score: Score::Scale, half: false }
    }

    /// Offsets of queries (or of what has their rows and `width` columns along `column`).
    fn rows(&self, width: u64, column: &str) -> String {
        let (head, row) = (self.r * width, self.g * self.r * width);
        format!("{}*b + {row}*t + {head}*g + {width}*r + {column}", self.t * row)
    }

    fn keys(&self, width: u64, column: &str) -> String {
        let row = self.g * width;
        format!("{}*b + {row}*s + {width}*g + {column}", self.s * row)
    }

    /// Offsets of one number for each query.
    fn row(&self) -> String {
        let Self { g, r, t, .. } = self;
        format!("{}*b + {}*g + {t}*r + t", g * r * t, r * t)
    }

    fn sizes(&self) -> [u64; 5] {
        let Self { b, g, r, t, s, c, e, .. } = *self;
        [b * t * g * r * c, b * s * g * c, b * s * g * e, b * t * g * r * e, b * g * r * t]
    }

    fn declarations(&self, grid: &str) -> String {
        let Self { b, g, r, t, s, c, e, tiles: [tile_t, tile_s], .. } = self;
        let mut text = format!(
            "  var b: {b} / 1\n  var g: {g} / 1\n  var r: {r} / 1\n  var t: {t} / {tile_t}
  var s: {s} / {tile_s}\n  var c: {c} / {}\n  var e: {e} / {}\n  grid {grid}\n\n",
            c.next_multiple_of(16),
            e.next_multiple_of(16),
        );
        writeln!(text, "  %0: f32 = 0.0\n  %1: f32 = 0.125\n  %2: f32 = -inf").unwrap();
        text
    }

    /// Reads of masks and scores, declared behind the others.
    fn inputs(&self) -> String {
        let mut text = String::new();
        if self.mask == Mask::Documents {
            write!(text, "  read dt: i32[{}]\n  read ds: i32[{}]\n", self.t, self.s).unwrap();
        }
        if self.score == Score::Alibi {
            writeln!(text, "  read slope: f32[{}]", self.g * self.r).unwrap();
        }
        if let Score::Bias { .. } = self.score {
            let Self { g, r, t, s, .. } = self;
            writeln!(text, "  read bias: {}[{}]", self.real(), g * r * t * s).unwrap();
        }
        text
    }

    /// The mask as `%23`, if there is one, and `when`. `vars` are the variables of positions.
    fn mask(&self) -> String {
        let head = "    %20: i32[s] = index s\n    %21: i32[t] = index t\n";
        let le = |shift: i64| {
            format!("    %24: i32[s] = index s + {shift}\n    %22: bool[t, s] = le %24, %21\n")
        };
        match self.mask {
            Mask::Full => String::new(),
            Mask::Causal(shift) => {
                let sign = if shift < 0 { '-' } else { '+' };
                let shift = shift.abs();
                format!(
                    "    %20: i32[s] = index s {sign} {shift}\n    %21: i32[t] = index t
    %23: bool[t, s] = le %20, %21\n    when %23\n"
                )
            }
            Mask::Window(n) => format!(
                "{head}{}    %25: i32[t, s] = sub %21, %20\n    %26: i32 = {n}
    %27: bool[t, s] = lt %25, %26\n    %23: bool[t, s] = and %22, %27\n    when %23\n",
                le(0)
            ),
            Mask::Sinks(first, n) => format!(
                "{head}{}    %25: i32[t, s] = sub %21, %20\n    %26: i32 = {n}
    %27: bool[t, s] = lt %25, %26\n    %28: i32 = {first}\n    %29: bool[s] = lt %20, %28
    %39: bool[t, s] = or %29, %27\n    %23: bool[t, s] = and %22, %39\n    when %23\n",
                le(0)
            ),
            Mask::Documents => format!(
                "{head}{}    %25: i32[t] = load dt[t]\n    %26: i32[s] = load ds[s]
    %27: bool[t, s] = eq %25, %26\n    %23: bool[t, s] = and %22, %27\n    when %23\n",
                le(0)
            ),
        }
    }

    /// The score `%30` of the raw product `%10`, with its variables.
    fn score(&self) -> String {
        let ty = "f32[b, g, r, t, s]";
        let mut text = match self.score {
            Score::Scale => format!("    %31: {ty} = mul %10, %1\n"),
            Score::Cap => format!(
                "    %32: f32 = 2.0\n    %33: {ty} = div %10, %32\n    %34: {ty} = tanh %33
    %31: {ty} = mul %34, %32\n"
            ),
            Score::Alibi => format!(
                "    %32: i32[t, s] = index s - t\n    %33: f32[t, s] = real %32
    %34: f32[g, r] = load slope[{}*g + r]\n    %35: f32[g, r, t, s] = mul %34, %33
    %36: {ty} = mul %10, %1\n    %31: {ty} = add %36, %35\n",
                self.r
            ),
            Score::Bias { .. } => {
                let Self { r, t, s, .. } = self;
                format!(
                    "    %32: f32[g, r, t, s] = load bias[{}*g + {}*r + {s}*t + s]
    %36: {ty} = mul %10, %1\n    %31: {ty} = add %36, %32\n",
                    r * t * s,
                    t * s
                )
            }
        };
        let masked = if self.mask == Mask::Full {
            format!("    %30: {ty} = max %31, %2\n")
        } else {
            format!("    %30: {ty} = where %23, %31, %2\n")
        };
        text += &masked;
        text
    }

    /// The derivative `%50` by the raw product of the score whose own is `%45`.
    fn derivative(&self) -> String {
        let ty = "f32[b, g, r, t, s]";
        let seen = if self.mask == Mask::Full { "%45" } else { "%46" };
        let mut text = String::new();
        if self.mask != Mask::Full {
            writeln!(text, "    %46: {ty} = where %23, %45, %0").unwrap();
        }
        match self.score {
            Score::Cap => write!(
                text,
                "    %47: {ty} = mul %34, %34\n    %48: f32 = 1.0\n    %49: {ty} = sub %48, %47
    %50: {ty} = mul {seen}, %49\n"
            ),
            _ => writeln!(text, "    %50: {ty} = mul {seen}, %1"),
        }
        .unwrap();
        text
    }

    fn real(&self) -> &'static str {
        if self.half { "bf16" } else { "f32" }
    }

    /// A value as an operand of a product, under another name.
    fn rounded(&self, from: &str, to: &str) -> String {
        let function = if self.half { "bf16" } else { "stop" };
        format!("    {to}: f32[b, g, r, t, s] = {function} {from}\n")
    }

    /// `out` and `lse`.
    pub(crate) fn forward(&self) -> String {
        let [q, k, v, o, m] = self.sizes();
        let mut text = format!(
            "kernel forward \"\" {{\n  read q: {0}[{q}]\n  read k: {0}[{k}]\n  read v: {0}[{v}]
  write o: {0}[{o}]\n  write m: f32[{m}]\n{1}",
            self.real(),
            self.inputs()
        );
        text += &self.declarations("b, g, r, t, c, e");
        let (q, k, v) = (self.rows(self.c, "c"), self.keys(self.c, "c"), self.keys(self.e, "e"));
        write!(
            text,
            "  %3: f32 = -3.4028235e38\n  %4: f32[b, g, r, t, c] = load q[{q}]
  loop s carry (%5: f32[b, g, r, t] = %3 -> %6, %7: f32[b, g, r, t] = %0 -> %8, \
             %9: f32[b, g, r, t, e] = %0 -> %17) {{
{}    %11: f32[b, s, g, c] = load k[{k}]\n    %10: f32[b, g, r, t, s] = dot %4, %11 along c
{}    %12: f32[b, g, r, t] = reduce max %30 along s\n    %13: f32[b, g, r, t] = max %5, %12
    %14: f32[b, g, r, t, s] = sub %30, %13\n    %15: f32[b, g, r, t, s] = exp %14
    %16: f32[b, g, r, t] = sub %5, %13\n    %18: f32[b, g, r, t] = exp %16
    %19: f32[b, g, r, t] = mul %7, %18\n    %40: f32[b, g, r, t] = reduce sum %15 along s
    %41: f32[b, g, r, t] = add %19, %40\n    %42: f32[b, s, g, e] = load v[{v}]
{}    %43: f32[b, g, r, t, e] = dot %90, %42 along s\n    %44: f32[b, g, r, t, e] = mul %9, %18
    %45: f32[b, g, r, t, e] = add %44, %43\n    next %13, %41, %45\n  }}
",
            self.mask(),
            self.score(),
            self.rounded("%15", "%90"),
        )
        .unwrap();
        let o = self.rows(self.e, "e");
        write!(
            text,
            "  %50: f32 = 0.5\n  %51: f32[b, g, r, t] = max %8, %50
  %52: f32[b, g, r, t, e] = div %17, %51\n  store o[{o}] = %52\n  %53: f32[b, g, r, t] = log %51
  %54: f32[b, g, r, t] = add %6, %53\n  %55: bool[b, g, r, t] = gt %8, %0
  %56: f32[b, g, r, t] = where %55, %54, %0\n  store m[{}] = %56\n}}\n",
            self.row()
        )
        .unwrap();
        numbered(&text.replace("[b, s, g,", "[b, g, s,"))
    }

    /// `dq`, `dk` and `dv` in one pass over pairs of tiles.
    pub(crate) fn backward(&self) -> String {
        let [q, k, v, o, m] = self.sizes();
        let mut text = format!(
            "kernel backward \"\" {{\n  read q: f32[{q}]\n  read k: f32[{k}]\n  read v: f32[{v}]
  read do: f32[{o}]\n  read lse: f32[{m}]\n  read delta: f32[{m}]\n  update dq: f32[{q}]
  write dk: f32[{k}]\n  write dv: f32[{v}]\n{}",
            self.inputs()
        );
        text += &self.declarations("b, g, c, e");
        let (q, o) = (self.rows(self.c, "c"), self.rows(self.e, "e"));
        let (k, v, row) = (self.keys(self.c, "c"), self.keys(self.e, "e"), self.row());
        let score = "f32[b, g, r, t, s]";
        write!(
            text,
            "  loop r {{\n  loop t {{\n    store dq[{q}] = %0\n  }}\n  }}
  loop s {{\n    %11: f32[b, g, s, c] = load k[{k}]\n    %42: f32[b, g, s, e] = load v[{v}]
  loop r carry (%60: f32[b, g, s, c] = %0 -> %61, %62: f32[b, g, s, e] = %0 -> %63) {{
  loop t carry (%64: f32[b, g, s, c] = %60 -> %65, %66: f32[b, g, s, e] = %62 -> %67) {{
{}    %4: f32[b, g, r, t, c] = load q[{q}]\n    %5: f32[b, g, r, t, e] = load do[{o}]
    %10: {score} = dot %4, %11 along c\n{}    %6: f32[b, g, r, t] = load lse[{row}]
    %7: f32[b, g, r, t] = load delta[{row}]\n    %12: {score} = sub %30, %6\n    %13: {score} = exp %12
    %14: {score} = dot %5, %42 along e\n    %15: {score} = sub %14, %7\n    %45: {score} = mul %13, %15
{}    %70: f32[b, g, r, s, e] = dot %13, %5 along t\n    %80: f32[b, g, s, e] = reduce sum %70 along r
    %71: f32[b, g, s, e] = add %66, %80\n    %72: f32[b, g, r, s, c] = dot %50, %4 along t
    %81: f32[b, g, s, c] = reduce sum %72 along r\n    %73: f32[b, g, s, c] = add %64, %81
    %74: f32[b, g, r, t, c] = dot %50, %11 along s\n    store dq[{q}] += %74
    next %73, %71\n  }}\n    next %65, %67\n  }}\n    store dk[{k}] = %61\n    store dv[{v}] = %63\n  }}\n}}\n",
            self.mask(),
            self.score(),
            self.derivative(),
        )
        .unwrap();
        numbered(&text)
    }

    fn backward_header(&self, name: &str, results: &str, grid: &str) -> String {
        let [q, k, v, o, m] = self.sizes();
        let real = self.real();
        format!(
            "kernel {name} \"\" {{\n  read q: {real}[{q}]\n  read k: {real}[{k}]\n  read v: {real}[{v}]
  read do: {real}[{o}]\n  read lse: f32[{m}]\n  read delta: f32[{m}]\n{results}{}{}",
            self.inputs(),
            self.declarations(grid)
        )
    }

    /// Of a pair of tiles: rounded probabilities `%91`, and rounded cotangents `%92` of the raw product.
    fn pair(&self) -> String {
        let (q, o, row) = (self.rows(self.c, "c"), self.rows(self.e, "e"), self.row());
        let (k, v) = (self.keys(self.c, "c"), self.keys(self.e, "e"));
        let score = "f32[b, g, r, t, s]";
        format!(
            "{}    %4: f32[b, g, r, t, c] = load q[{q}]\n    %5: f32[b, g, r, t, e] = load do[{o}]
    %11: f32[b, g, s, c] = load k[{k}]\n    %42: f32[b, g, s, e] = load v[{v}]
    %10: {score} = dot %4, %11 along c\n{}    %6: f32[b, g, r, t] = load lse[{row}]
    %7: f32[b, g, r, t] = load delta[{row}]\n    %12: {score} = sub %30, %6\n    %13: {score} = exp %12
    %14: {score} = dot %5, %42 along e\n    %15: {score} = sub %14, %7\n    %45: {score} = mul %13, %15
{}{}{}",
            self.mask(),
            self.score(),
            self.derivative(),
            self.rounded("%13", "%91"),
            self.rounded("%50", "%92"),
        )
    }

    /// `dq` alone: queries outside.
    pub(crate) fn queries(&self) -> String {
        let results = format!("  write dq: {}[{}]\n", self.real(), self.sizes()[0]);
        let mut text = self.backward_header("queries", &results, "b, g, r, t, c, e");
        write!(
            text,
            "  loop s carry (%60: f32[b, g, r, t, c] = %0 -> %61) {{\n{}\
             \x20   %70: f32[b, g, r, t, c] = dot %92, %11 along s
    %71: f32[b, g, r, t, c] = add %60, %70\n    next %71\n  }}\n  store dq[{}] = %61\n}}\n",
            self.pair(),
            self.rows(self.c, "c"),
        )
        .unwrap();
        numbered(&text)
    }

    /// `dk` or `dv` or both: keys outside.
    pub(crate) fn values(&self, of: [bool; 2]) -> String {
        let [_, k, v, ..] = self.sizes();
        let real = self.real();
        let both = [
            ("c", k, self.keys(self.c, "c"), "dk", "%92, %4"),
            ("e", v, self.keys(self.e, "e"), "dv", "%91, %5"),
        ];
        let wanted: Vec<_> = both.into_iter().zip(of).filter(|(_, w)| *w).map(|(x, _)| x).collect();
        let list = |one: &dyn Fn(usize, &str, &str) -> String| {
            let all = wanted.iter().enumerate().map(|(i, x)| one(i, x.0, x.4));
            all.collect::<Vec<_>>().join(", ")
        };
        let mut results: String =
            wanted.iter().map(|x| format!("  write {}: {real}[{}]\n", x.3, x.1)).collect();
        let trained = self.score == Score::Bias { trained: true } && of[0];
        let Self { b, g, r, t, s, .. } = *self;
        let at = format!("{}*b + {}*g + {}*r + {s}*t + s", g * r * t * s, r * t * s, t * s);
        if trained {
            writeln!(results, "  write dscore: {real}[{}]", b * g * r * t * s).unwrap();
        }
        let mut text = self.backward_header("values", &results, "b, g, s, c, e");
        let outer = list(&|i, w, _| format!("%6{i}: f32[b, g, s, {w}] = %0 -> %10{i}"));
        let inner = list(&|i, w, _| format!("%7{i}: f32[b, g, s, {w}] = %6{i} -> %11{i}"));
        if trained {
            // Turns may be left out.
            writeln!(text, "  loop r {{\n  loop t {{\n    store dscore[{at}] = %0\n  }}\n  }}")
                .unwrap();
        }
        write!(text, "  loop r carry ({outer}) {{\n  loop t carry ({inner}) {{\n{}", self.pair())
            .unwrap();
        if trained {
            writeln!(text, "    store dscore[{at}] = %45").unwrap();
        }
        for (i, (w, .., operands)) in wanted.iter().enumerate() {
            write!(
                text,
                "    %12{i}: f32[b, g, r, s, {w}] = dot {operands} along t
    %13{i}: f32[b, g, s, {w}] = reduce sum %12{i} along r\n    %14{i}: f32[b, g, s, {w}] = add %7{i}, %13{i}\n"
            )
            .unwrap();
        }
        let [next, out] = [14, 11].map(|n| list(&|i, _, _| format!("%{n}{i}")));
        write!(text, "    next {next}\n  }}\n    next {out}\n  }}\n").unwrap();
        for (i, (.., at, name, _)) in wanted.iter().enumerate() {
            writeln!(text, "  store {name}[{at}] = %10{i}").unwrap();
        }
        text += "}\n";
        numbered(&text)
    }
}

/// Numbers the values densely, by first appearance.
fn numbered(text: &str) -> String {
    let mut known: Vec<&str> = Vec::new();
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let digits = rest[at + 1..].find(|c: char| !c.is_ascii_digit()).expect("text follows");
        let (before, label) = (&rest[..at], &rest[at + 1..at + 1 + digits]);
        let number = known.iter().position(|l| *l == label).unwrap_or_else(|| {
            known.push(label);
            known.len() - 1
        });
        write!(out, "{before}%{number}").unwrap();
        rest = &rest[at + 1 + digits..];
    }
    out + rest
}
