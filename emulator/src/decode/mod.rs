//! [`ast`] → [`Program`]: names become slots, labels become indices, modifiers become closures.
//!
//! Every instruction family is one row of [`FAMILIES`]; what no family accepts is an error at its
//! line, and so is every modifier or operand that a family did not consume.

mod arith;
mod bits;
mod compare;
mod control;
mod convert;
mod copy;
mod data;
mod declare;
mod floats;
mod function;
mod guess;
mod ins;
mod matrix;
mod names;
mod sync;
mod video;

pub(crate) use function::decode;
use ins::Ins;

use crate::error::PtxError;
use crate::program::Op;

type Decoded = Result<Op, PtxError>;

/// Decodes one family of instructions.
pub(crate) type Family = fn(&mut Ins) -> Decoded;

/// First words of opcodes and who decodes them, in the order of the manual.
pub(crate) static FAMILIES: &[(&str, Family)] = &[
    // Integer arithmetic
    ("add", arith::add),
    ("sub", arith::sub),
    ("mul", arith::mul),
    ("mad", arith::mad),
    ("mul24", arith::mul24),
    ("mad24", arith::mad24),
    ("sad", arith::sad),
    ("div", arith::div),
    ("rem", arith::rem),
    ("abs", arith::abs),
    ("neg", arith::neg),
    ("min", arith::min),
    ("max", arith::max),
    ("popc", bits::popc),
    ("clz", bits::clz),
    ("bfind", bits::bfind),
    ("fns", bits::fns),
    ("brev", bits::brev),
    ("bfe", bits::bfe),
    ("bfi", bits::bfi),
    ("szext", bits::szext),
    ("bmsk", bits::bmsk),
    ("dp4a", arith::dp4a),
    ("dp2a", arith::dp2a),
    ("addc", arith::addc),
    ("subc", arith::subc),
    ("madc", arith::madc),
    // Floating point
    ("testp", floats::testp),
    ("copysign", floats::copysign),
    ("fma", floats::fma),
    ("rcp", floats::rcp),
    ("sqrt", floats::sqrt),
    ("rsqrt", floats::rsqrt),
    ("sin", floats::sin),
    ("cos", floats::cos),
    ("lg2", floats::lg2),
    ("ex2", floats::ex2),
    ("tanh", floats::tanh),
    // Video
    ("vadd", video::scalar),
    ("vsub", video::scalar),
    ("vabsdiff", video::scalar),
    ("vmin", video::scalar),
    ("vmax", video::scalar),
    ("vshl", video::scalar),
    ("vshr", video::scalar),
    ("vset", video::scalar),
    ("vmad", video::mad),
    ("vadd2", video::simd),
    ("vsub2", video::simd),
    ("vavrg2", video::simd),
    ("vabsdiff2", video::simd),
    ("vmin2", video::simd),
    ("vmax2", video::simd),
    ("vset2", video::simd),
    ("vadd4", video::simd),
    ("vsub4", video::simd),
    ("vavrg4", video::simd),
    ("vabsdiff4", video::simd),
    ("vmin4", video::simd),
    ("vmax4", video::simd),
    ("vset4", video::simd),
    // Comparison and selection
    ("set", compare::set),
    ("setp", compare::setp),
    ("selp", compare::selp),
    ("slct", compare::slct),
    // Logic and shift
    ("and", bits::and),
    ("or", bits::or),
    ("xor", bits::xor),
    ("not", bits::not),
    ("cnot", bits::cnot),
    ("lop3", bits::lop3),
    ("shf", bits::shf),
    ("shl", bits::shl),
    ("shr", bits::shr),
    ("prmt", bits::prmt),
    // Data movement and conversion
    ("mov", data::mov),
    ("ld", data::ld),
    ("ldu", data::ld),
    ("st", data::st),
    ("cvt", convert::cvt),
    ("cvta", data::cvta),
    ("isspacep", data::isspacep),
    ("prefetch", data::touch),
    ("prefetchu", data::touch),
    ("applypriority", data::touch),
    ("discard", data::touch),
    ("createpolicy", data::createpolicy),
    ("mapa", data::mapa),
    ("getctarank", data::getctarank),
    ("cp", copy::cp),
    ("tensormap", copy::tensormap),
    // Control flow
    ("bra", control::bra),
    ("brx", control::brx),
    ("call", control::call),
    ("ret", control::ret),
    ("exit", control::exit),
    // Synchronisation and communication
    ("bar", sync::bar),
    ("barrier", sync::bar),
    ("membar", sync::fence),
    ("fence", sync::fence),
    ("atom", data::atom),
    ("red", data::atom),
    ("vote", sync::vote),
    ("match", sync::match_),
    ("activemask", sync::activemask),
    ("redux", sync::redux),
    ("shfl", sync::shfl),
    ("elect", sync::elect),
    ("griddepcontrol", control::griddepcontrol),
    ("mbarrier", copy::mbarrier),
    // Matrices
    ("ldmatrix", matrix::ldmatrix),
    ("stmatrix", matrix::stmatrix),
    ("movmatrix", matrix::movmatrix),
    ("mma", matrix::mma),
    ("wmma", matrix::wmma),
    ("wgmma", matrix::wgmma),
    // Stack and miscellaneous
    ("stacksave", control::stacksave),
    ("stackrestore", control::stackrestore),
    ("alloca", control::alloca),
    ("setmaxnreg", control::setmaxnreg),
    ("nanosleep", control::nanosleep),
    ("pmevent", control::pmevent),
    ("trap", control::trap),
    ("brkpt", control::trap),
];
