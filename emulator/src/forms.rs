//! The forms of the instructions that the emulator runs: the one list that the decoder accepts, that
//! `docs/ptx-opcodes.md` prints, and that the conformance tests walk.
//!
//! A form is written as in the PTX manual. `[.x]` may be left out, `{a,b}` is one of several, `<set>` is
//! one of a named set ([`SETS`]). Where a form computes a value, its operands follow: the result first,
//! `T` for the last type of the opcode, `D` for the first, `W` for twice the width of `T`, or a type.
//! Modifiers may stand in any order; compilers and the manual disagree about it.

use std::collections::HashMap;
use std::sync::OnceLock;

/// Forms of one kind.
pub struct Section {
    /// Heading in the documentation.
    pub title: &'static str,
    /// Whether the forms compute a value from their operands alone; the operands are listed then.
    pub values: bool,
    /// One form a line.
    pub lines: &'static str,
}

/// Named sets of modifiers.
pub const SETS: &[(&str, &str)] = &[
    ("int", "u16,u32,u64,s16,s32,s64"),
    ("bits", "b16,b32,b64"),
    ("rnd", "rn,rz,rm,rp"),
    ("irnd", "rni,rzi,rmi,rpi"),
    ("half", "f16,f16x2"),
    ("brain", "bf16,bf16x2"),
    ("cmp", "eq,ne,lt,le,gt,ge"),
    ("ucmp", "eq,ne,lo,ls,hi,hs,lt,le,gt,ge"),
    ("fcmp", "eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan"),
    ("bool", "and,or,xor"),
    ("any8", "u8,u16,u32,u64,s8,s16,s32,s64"),
    ("any", "b8,b16,b32,b64,u8,u16,u32,u64,s8,s16,s32,s64,f32,f64"),
    ("scalar", "b16,b32,b64,u16,u32,u64,s16,s32,s64,f32,f64"),
    ("byte", "b0,b1,b2,b3,h0,h1"),
    ("sign", "u32,s32"),
    (
        "space",
        "const,global,local,param,param::entry,param::func,shared,shared::cta,shared::cluster",
    ),
    ("shared", "shared,shared::cta,shared::cluster"),
    ("cache", "ca,cg,cs,lu,cv,wb,wt"),
    ("l1", "L1::evict_normal,L1::evict_unchanged,L1::evict_first,L1::evict_last,L1::no_allocate"),
    ("l2", "L2::evict_normal,L2::evict_first,L2::evict_last"),
    ("fetch", "L2::64B,L2::128B,L2::256B"),
    ("scope", "cta,cluster,gpu,sys"),
    ("vec", "v2,v4"),
    ("dim", "1d,2d,3d,4d,5d"),
    ("done", "mbarrier::complete_tx::bytes"),
    (
        "n",
        "n8,n16,n24,n32,n40,n48,n56,n64,n72,n80,n88,n96,n104,n112,n120,n128,n136,n144,n152,n160,n168,n176,n184,n192,n200,n208,n216,n224,n232,n240,n248,n256",
    ),
];

/// Every form, in the order of the manual.
pub const SECTIONS: &[Section] = &[
    Section {
        title: "Integer arithmetic",
        values: true,
        lines: "\
add.{<int>,u16x2,s16x2}  T, T, T
add.sat.s32  T, T, T
sub.<int>  T, T, T
sub.sat.s32  T, T, T
mul.{lo,hi}.<int>  T, T, T
mul.wide.{u16,u32,s16,s32}  W, T, T
mad.{lo,hi}.<int>  T, T, T, T
mad.hi.sat.s32  T, T, T, T
mad.wide.{u16,u32,s16,s32}  W, T, T, W
mul24.{lo,hi}.<sign>  T, T, T
mad24.{lo,hi}.<sign>  T, T, T, T
mad24.hi.sat.s32  T, T, T, T
sad.<int>  T, T, T, T
div.<int>  T, T, T
rem.<int>  T, T, T
abs.{s16,s32,s64}  T, T
neg.{s16,s32,s64}  T, T
min.{<int>,u16x2,s16x2}  T, T, T
min.relu.{s16x2,s32}  T, T, T
max.{<int>,u16x2,s16x2}  T, T, T
max.relu.{s16x2,s32}  T, T, T
popc.{b32,b64}  u32, T
clz.{b32,b64}  u32, T
bfind[.shiftamt].{u32,u64,s32,s64}  u32, T
fns.b32  T, T, b32, s32
brev.{b32,b64}  T, T
bfe.{u32,u64,s32,s64}  T, T, u32, u32
bfi.{b32,b64}  T, T, T, u32, u32
szext.{clamp,wrap}.<sign>  T, T, u32
bmsk.{clamp,wrap}.b32  T, T, T
dp4a.<sign>.<sign>  b32, b32, b32, b32
dp2a.{lo,hi}.<sign>.<sign>  b32, b32, b32, b32",
    },
    Section {
        title: "Extended-precision integers",
        values: true,
        lines: "\
add.cc.{u32,s32,u64,s64}  T, T, T
addc[.cc].{u32,s32,u64,s64}  T, T, T
sub.cc.{u32,s32,u64,s64}  T, T, T
subc[.cc].{u32,s32,u64,s64}  T, T, T
mad.{lo,hi}.cc.{u32,s32,u64,s64}  T, T, T, T
madc.{lo,hi}[.cc].{u32,s32,u64,s64}  T, T, T, T",
    },
    Section {
        title: "Floating point",
        values: true,
        lines: "\
testp.{finite,infinite,number,notanumber,normal,subnormal}.{f32,f64}  pred, T
copysign.{f32,f64}  T, T, T
add[.<rnd>][.ftz][.sat].f32  T, T, T
add[.<rnd>].f64  T, T, T
sub[.<rnd>][.ftz][.sat].f32  T, T, T
sub[.<rnd>].f64  T, T, T
mul[.<rnd>][.ftz][.sat].f32  T, T, T
mul[.<rnd>].f64  T, T, T
fma.<rnd>[.ftz][.sat].f32  T, T, T, T
fma.<rnd>.f64  T, T, T, T
mad.<rnd>[.ftz][.sat].f32  T, T, T, T
mad.<rnd>.f64  T, T, T, T
div.{approx,full}[.ftz].f32  T, T, T
div.<rnd>[.ftz].f32  T, T, T
div.<rnd>.f64  T, T, T
abs[.ftz].f32  T, T
abs.f64  T, T
neg[.ftz].f32  T, T
neg.f64  T, T
min[.ftz][.NaN][.xorsign.abs].f32  T, T, T
min.f64  T, T, T
max[.ftz][.NaN][.xorsign.abs].f32  T, T, T
max.f64  T, T, T
rcp.approx[.ftz].f32  T, T
rcp.<rnd>[.ftz].f32  T, T
rcp.<rnd>.f64  T, T
rcp.approx.ftz.f64  T, T
sqrt.approx[.ftz].f32  T, T
sqrt.<rnd>[.ftz].f32  T, T
sqrt.<rnd>.f64  T, T
rsqrt.approx[.ftz].{f32,f64}  T, T
sin.approx[.ftz].f32  T, T
cos.approx[.ftz].f32  T, T
lg2.approx[.ftz].f32  T, T
ex2.approx[.ftz].f32  T, T
tanh.approx.f32  T, T",
    },
    Section {
        title: "Half precision",
        values: true,
        lines: "\
add[.rn][.ftz][.sat].<half>  T, T, T
add[.rn].<brain>  T, T, T
sub[.rn][.ftz][.sat].<half>  T, T, T
sub[.rn].<brain>  T, T, T
mul[.rn][.ftz][.sat].<half>  T, T, T
mul[.rn].<brain>  T, T, T
fma.rn[.ftz][.sat].<half>  T, T, T, T
fma.rn[.ftz].relu.<half>  T, T, T, T
fma.rn[.relu].<brain>  T, T, T, T
neg[.ftz].<half>  T, T
neg.<brain>  T, T
abs[.ftz].<half>  T, T
abs.<brain>  T, T
min[.ftz][.NaN][.xorsign.abs].<half>  T, T, T
min[.NaN][.xorsign.abs].<brain>  T, T, T
max[.ftz][.NaN][.xorsign.abs].<half>  T, T, T
max[.NaN][.xorsign.abs].<brain>  T, T, T
tanh.approx.{<half>,<brain>}  T, T
ex2.approx.<half>  T, T
ex2.approx.ftz.<brain>  T, T",
    },
    Section {
        title: "Comparison and selection",
        values: true,
        lines: "\
set.<ucmp>[.<bool>].<sign>.{u16,u32,u64}  D, T, T, bool
set.<cmp>[.<bool>].<sign>.{s16,s32,s64}  D, T, T, bool
set.{eq,ne}[.<bool>].<sign>.<bits>  D, T, T, bool
set.<fcmp>[.<bool>][.ftz].<sign>.f32  D, T, T, bool
set.<fcmp>[.<bool>].<sign>.f64  D, T, T, bool
set.<ucmp>[.<bool>].f32.{u16,u32,u64}  D, T, T, bool
set.<cmp>[.<bool>].f32.{s16,s32,s64}  D, T, T, bool
set.{eq,ne}[.<bool>].f32.<bits>  D, T, T, bool
set.<fcmp>[.<bool>][.ftz].f32.f32  D, T, T, bool
set.<fcmp>[.<bool>].f32.f64  D, T, T, bool
set.<fcmp>[.<bool>][.ftz].{u16,s16,u32,s32,f16}.f16  D, T, T, bool
set.<fcmp>[.<bool>].{u16,s16,u32,s32,bf16}.bf16  D, T, T, bool
set.<fcmp>[.<bool>].{f16,bf16}.{f32,f64}  D, T, T, bool
set.<ucmp>[.<bool>].{f16,bf16}.{u16,u32,u64}  D, T, T, bool
set.<cmp>[.<bool>].{f16,bf16}.{s16,s32,s64}  D, T, T, bool
set.{eq,ne}[.<bool>].{f16,bf16}.<bits>  D, T, T, bool
set.<fcmp>[.<bool>][.ftz].{f16x2,u32,s32}.f16x2  D, T, T, bool
set.<fcmp>[.<bool>].{bf16x2,u32,s32}.bf16x2  D, T, T, bool
setp.<ucmp>[.<bool>].{u16,u32,u64}  pred|pred, T, T, bool
setp.<cmp>[.<bool>].{s16,s32,s64}  pred|pred, T, T, bool
setp.{eq,ne}[.<bool>].<bits>  pred|pred, T, T, bool
setp.<fcmp>[.<bool>][.ftz].f32  pred|pred, T, T, bool
setp.<fcmp>[.<bool>].f64  pred|pred, T, T, bool
setp.<fcmp>[.<bool>][.ftz].f16  pred, T, T, bool
setp.<fcmp>[.<bool>][.ftz].f16x2  pred|pred, T, T, bool
setp.<fcmp>[.<bool>].bf16  pred, T, T, bool
setp.<fcmp>[.<bool>].bf16x2  pred|pred, T, T, bool
selp.<scalar>  T, T, T, pred
slct.<scalar>.s32  D, D, D, T
slct[.ftz].<scalar>.f32  D, D, D, T",
    },
    Section {
        title: "Logic and shifts",
        values: true,
        lines: "\
and.{pred,<bits>}  T, T, T
or.{pred,<bits>}  T, T, T
xor.{pred,<bits>}  T, T, T
not.{pred,<bits>}  T, T
cnot.<bits>  T, T
lop3.b32  T, T, T, T, lut
lop3.{or,and}.b32  T|pred, T, T, T, lut, pred
shf.{l,r}.{clamp,wrap}.b32  T, T, T, u32
shl.<bits>  T, T, u32
shr.{<bits>,<int>}  T, T, u32
prmt.b32[.{f4e,b4e,rc8,ecl,ecr,rc16}]  T, T, T, T",
    },
    Section {
        title: "Conversions",
        values: true,
        lines: "\
cvt[.sat].<any8>.<any8>  D, T
cvt.<irnd>[.ftz][.sat].<any8>.f32  D, T
cvt.<irnd>[.sat].<any8>.{f16,f64}  D, T
cvt.<irnd>.<any8>.bf16  D, T
cvt.<rnd>[.ftz][.sat].f32.<any8>  D, T
cvt.<rnd>[.sat].{f16,f64}.<any8>  D, T
cvt.<rnd>.bf16.<any8>  D, T
cvt[.ftz][.sat].f32.{f16,f32}  D, T
cvt[.ftz].f32.bf16  D, T
cvt.<rnd>[.ftz].f32.bf16  D, T
cvt[.ftz][.sat].f64.f32  D, T
cvt[.sat].f64.{f16,f64}  D, T
cvt[.<rnd>].f64.bf16  D, T
cvt[.sat].f16.f16  D, T
cvt.bf16.bf16  D, T
cvt[.<rnd>].f16.bf16  D, T
cvt[.<rnd>].bf16.f16  D, T
cvt.<irnd>[.ftz][.sat].f32.f32  D, T
cvt.<irnd>[.sat].{f16.f16,f64.f64}  D, T
cvt.<irnd>.bf16.bf16  D, T
cvt.<rnd>[.ftz][.sat].f32.f64  D, T
cvt.<rnd>[.ftz][.sat].f16.f32  D, T
cvt.<rnd>[.ftz].bf16.f32  D, T
cvt.<rnd>[.sat].f16.f64  D, T
cvt.<rnd>.bf16.f64  D, T
cvt.{rn,rz}[.relu][.satfinite].{f16,bf16}.f32  D, T
cvt.{rn,rz}[.relu][.satfinite].{f16x2,bf16x2}.f32  D, T, T
cvt.rna[.satfinite].tf32.f32  D, T
cvt.{rn,rz}[.relu][.satfinite].tf32.f32  D, T
cvt.rn.satfinite[.relu].{e4m3x2,e5m2x2}.f32  D, T, T
cvt.rn.satfinite[.relu].{e4m3x2,e5m2x2}.f16x2  D, T
cvt.rn[.relu].f16x2.{e4m3x2,e5m2x2}  D, T
cvt.pack.sat.{u16,s16}.s32  b32, T, T
cvt.pack.sat.{u2,s2,u4,s4,u8,s8}.s32.b32  T, s32, s32, T",
    },
    Section {
        title: "Video instructions",
        values: true,
        lines: "\
vadd.<sign>.<sign>.<sign>[.sat][.{add,min,max}]  b32<byte>, b32<byte>, b32<byte>, b32
vsub.<sign>.<sign>.<sign>[.sat][.{add,min,max}]  b32<byte>, b32<byte>, b32<byte>, b32
vabsdiff.<sign>.<sign>.<sign>[.sat][.{add,min,max}]  b32<byte>, b32<byte>, b32<byte>, b32
vmin.<sign>.<sign>.<sign>[.sat][.{add,min,max}]  b32<byte>, b32<byte>, b32<byte>, b32
vmax.<sign>.<sign>.<sign>[.sat][.{add,min,max}]  b32<byte>, b32<byte>, b32<byte>, b32
vshl.<sign>.<sign>.u32[.sat].{clamp,wrap}[.{add,min,max}]  b32<byte>, b32<byte>, b32<byte>, b32
vshr.<sign>.<sign>.u32[.sat].{clamp,wrap}[.{add,min,max}]  b32<byte>, b32<byte>, b32<byte>, b32
vset.<sign>.<sign>.<cmp>[.{add,min,max}]  b32<byte>, b32<byte>, b32<byte>, b32
vmad.<sign>.<sign>.<sign>[.po][.sat][.{shr7,shr15}]  b32, b32<byte>, b32<byte>, b32
vadd2.<sign>.<sign>.<sign>[.{sat,add}]  b32, b32, b32, b32
vsub2.<sign>.<sign>.<sign>[.{sat,add}]  b32, b32, b32, b32
vavrg2.<sign>.<sign>.<sign>[.{sat,add}]  b32, b32, b32, b32
vabsdiff2.<sign>.<sign>.<sign>[.{sat,add}]  b32, b32, b32, b32
vmin2.<sign>.<sign>.<sign>[.{sat,add}]  b32, b32, b32, b32
vmax2.<sign>.<sign>.<sign>[.{sat,add}]  b32, b32, b32, b32
vset2.<sign>.<sign>.<cmp>[.add]  b32, b32, b32, b32
vadd4.<sign>.<sign>.<sign>[.{sat,add}]  b32, b32, b32, b32
vsub4.<sign>.<sign>.<sign>[.{sat,add}]  b32, b32, b32, b32
vavrg4.<sign>.<sign>.<sign>[.{sat,add}]  b32, b32, b32, b32
vabsdiff4.<sign>.<sign>.<sign>[.{sat,add}]  b32, b32, b32, b32
vmin4.<sign>.<sign>.<sign>[.{sat,add}]  b32, b32, b32, b32
vmax4.<sign>.<sign>.<sign>[.{sat,add}]  b32, b32, b32, b32
vset4.<sign>.<sign>.<cmp>[.add]  b32, b32, b32, b32",
    },
    Section {
        title: "Data movement",
        values: false,
        lines: "\
mov.{pred,<scalar>,b128}
ld[.weak][.<space>][.<cache>][.nc][.<l1>][.<l2>][.L2::cache_hint][.<fetch>][.<vec>].{<any>,b128}
ld.volatile[.<space>][.<fetch>][.<vec>].<any>
ld.{relaxed,acquire}.<scope>[.<space>][.<l1>][.<l2>][.L2::cache_hint][.<fetch>][.<vec>].{<any>,b128}
ld.mmio.relaxed.sys[.global].<any>
ldu[.global][.<vec>].{<any>,b128}
st[.weak][.<space>][.<cache>][.<l1>][.<l2>][.L2::cache_hint][.<vec>].{<any>,b128}
st.volatile[.<space>][.<vec>].<any>
st.{relaxed,release}.<scope>[.<space>][.<l1>][.<l2>][.L2::cache_hint][.<vec>].{<any>,b128}
st.mmio.relaxed.sys[.global].<any>
st.async[.weak][.cluster][.shared::cluster].<done>[.<vec>].{b32,b64,u32,u64,s32,s64,f32,f64}
prefetch[.{global,local}].{L1,L2}
prefetch.global.{L2::evict_last,L2::evict_normal}
prefetch[.{const,param}].tensormap
prefetchu.L1
applypriority[.global].L2::evict_normal
discard[.global].L2
createpolicy.fractional.{<l2>,L2::evict_unchanged}[.{L2::evict_first,L2::evict_unchanged}].b64
createpolicy.range[.global].{<l2>,L2::evict_unchanged}[.{L2::evict_first,L2::evict_unchanged}].b64
createpolicy.cvt.L2.b64
cvta[.to].<space>.u64
isspacep.<space>
mapa[.shared::cluster].{u32,u64}
getctarank[.shared::cluster].{u32,u64}",
    },
    Section {
        title: "Asynchronous copies",
        values: false,
        lines: "\
cp.async.{ca,cg}.{shared,shared::cta}.global[.L2::cache_hint][.<fetch>]
cp.async.commit_group
cp.async.{wait_group,wait_all}
cp.async.mbarrier.arrive[.noinc][.{shared,shared::cta}].b64
cp.async.bulk.{shared::cta,shared::cluster}.global.<done>[.multicast::cluster][.L2::cache_hint]
cp.async.bulk.shared::cluster.shared::cta.<done>
cp.async.bulk.global.shared::cta.bulk_group[.L2::cache_hint]
cp.async.bulk.prefetch.L2.global[.L2::cache_hint]
cp.async.bulk.commit_group
cp.async.bulk.wait_group[.read]
cp.reduce.async.bulk.shared::cluster.shared::cta.<done>.{add,inc,dec,min,max}.{u32,s32,u64}
cp.reduce.async.bulk.shared::cluster.shared::cta.<done>.<bool>.{b32,b64}
cp.reduce.async.bulk.global.shared::cta.bulk_group[.L2::cache_hint].{add,inc,dec,min,max}.{u32,s32,u64,s64,f16,bf16,f32,f64}
cp.reduce.async.bulk.global.shared::cta.bulk_group[.L2::cache_hint].add.noftz.{f16,bf16}
cp.reduce.async.bulk.global.shared::cta.bulk_group[.L2::cache_hint].<bool>.{b32,b64}
cp.async.bulk.tensor.<dim>.{shared::cta,shared::cluster}.global[.tile].<done>[.multicast::cluster][.L2::cache_hint]
cp.async.bulk.tensor.<dim>.global.shared::cta[.tile].bulk_group[.L2::cache_hint]
cp.reduce.async.bulk.tensor.<dim>.global.shared::cta.{add,min,max,inc,dec,and,or,xor}[.tile].bulk_group[.L2::cache_hint]
cp.async.bulk.prefetch.tensor.<dim>.L2.global[.tile][.L2::cache_hint]
tensormap.replace.tile.{global_address,rank,box_dim,global_dim,global_stride,element_stride}[.{global,shared::cta}].b1024.{b32,b64}
tensormap.replace.tile.{elemtype,interleave_layout,swizzle_mode,swizzle_atomicity,fill_mode}[.{global,shared::cta}].b1024.b32
tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.<scope>.sync.aligned",
    },
    Section {
        title: "Control flow",
        values: false,
        lines: "\
bra[.uni]
brx.idx[.uni]
call[.uni]
ret[.uni]
exit",
    },
    Section {
        title: "Synchronisation and communication",
        values: false,
        lines: "\
bar[.cta].{sync,arrive}
bar[.cta].red.popc.u32
bar[.cta].red.{and,or}.pred
barrier[.cta].{sync,arrive}[.aligned]
barrier[.cta].red.popc[.aligned].u32
barrier[.cta].red.{and,or}[.aligned].pred
bar.warp.sync
barrier.cluster.arrive[.{release,relaxed}][.aligned]
barrier.cluster.wait[.acquire][.aligned]
membar.{cta,gl,sys}
membar.proxy.{alias,async,async.global,async.shared::cta,async.shared::cluster}
fence[.{sc,acq_rel,acquire,release}].<scope>
fence.{acquire,release}.{sync_restrict::shared::cluster,sync_restrict::shared::cta}.cluster
fence.mbarrier_init.release.cluster
fence.proxy.{alias,async,async.global,async.shared::cta,async.shared::cluster}
fence.proxy.tensormap::generic.{acquire,release}.<scope>
fence.proxy.async::generic.{acquire,release}.{sync_restrict::shared::cluster,sync_restrict::shared::cta}.cluster
atom[.{relaxed,acquire,release,acq_rel}][.<scope>][.{global,<shared>}].{add,min,max}[.L2::cache_hint].{u32,s32,u64,s64}
atom[.{relaxed,acquire,release,acq_rel}][.<scope>][.{global,<shared>}].add[.L2::cache_hint].{f32,f64}
atom[.{relaxed,acquire,release,acq_rel}][.<scope>][.{global,<shared>}].{inc,dec}[.L2::cache_hint].u32
atom[.{relaxed,acquire,release,acq_rel}][.<scope>][.{global,<shared>}].<bool>[.L2::cache_hint].{b32,b64}
atom[.{relaxed,acquire,release,acq_rel}][.<scope>][.{global,<shared>}].exch[.L2::cache_hint].{b32,b64,b128}
atom[.{relaxed,acquire,release,acq_rel}][.<scope>][.{global,<shared>}].cas.{b16,b32,b64,b128}
atom[.{relaxed,acquire,release,acq_rel}][.<scope>][.{global,<shared>}].add.noftz[.L2::cache_hint].{<half>,<brain>}
atom[.{relaxed,acquire,release,acq_rel}][.<scope>][.global].add[.L2::cache_hint].<vec>.f32
atom[.{relaxed,acquire,release,acq_rel}][.<scope>][.global].{add,min,max}.noftz[.L2::cache_hint].{v2,v4,v8}.{f16,bf16}
atom[.{relaxed,acquire,release,acq_rel}][.<scope>][.global].{add,min,max}.noftz[.L2::cache_hint].<vec>.{f16x2,bf16x2}
red[.{relaxed,release}][.<scope>][.{global,<shared>}].{add,min,max}[.L2::cache_hint].{u32,s32,u64,s64}
red[.{relaxed,release}][.<scope>][.{global,<shared>}].add[.L2::cache_hint].{f32,f64}
red[.{relaxed,release}][.<scope>][.{global,<shared>}].{inc,dec}[.L2::cache_hint].u32
red[.{relaxed,release}][.<scope>][.{global,<shared>}].<bool>[.L2::cache_hint].{b32,b64}
red[.{relaxed,release}][.<scope>][.{global,<shared>}].add.noftz[.L2::cache_hint].{<half>,<brain>}
red[.{relaxed,release}][.<scope>][.global].add[.L2::cache_hint].<vec>.f32
red[.{relaxed,release}][.<scope>][.global].{add,min,max}.noftz[.L2::cache_hint].{v2,v4,v8}.{f16,bf16}
red[.{relaxed,release}][.<scope>][.global].{add,min,max}.noftz[.L2::cache_hint].<vec>.{f16x2,bf16x2}
red.async.relaxed.cluster[.shared::cluster].<done>.{inc,dec}.u32
red.async.relaxed.cluster[.shared::cluster].<done>.{min,max}.<sign>
red.async.relaxed.cluster[.shared::cluster].<done>.<bool>.b32
red.async.relaxed.cluster[.shared::cluster].<done>.add.{u32,s32,u64}
vote.sync.{all,any,uni}.pred
vote.sync.ballot.b32
match.{any,all}.sync.{b32,b64}
activemask.b32
redux.sync.{add,min,max}.<sign>
redux.sync.<bool>.b32
shfl.sync.{up,down,bfly,idx}.b32
elect.sync
griddepcontrol.{launch_dependents,wait}
mbarrier.init[.{shared,shared::cta}].b64
mbarrier.inval[.{shared,shared::cta}].b64
mbarrier.{arrive,arrive_drop}[.expect_tx][.{release,relaxed}][.{cta,cluster}][.<shared>].b64
mbarrier.{arrive,arrive_drop}.noComplete[.release][.cta][.{shared,shared::cta}].b64
mbarrier.{expect_tx,complete_tx}[.relaxed][.{cta,cluster}][.<shared>].b64
mbarrier.{test_wait,try_wait}[.parity][.{acquire,relaxed}][.{cta,cluster}][.{shared,shared::cta}].b64
mbarrier.pending_count.b64",
    },
    Section {
        title: "Matrices",
        values: false,
        lines: "\
ldmatrix.sync.aligned.m8n8.{x1,x2,x4}[.trans][.{shared,shared::cta}].b16
stmatrix.sync.aligned.m8n8.{x1,x2,x4}[.trans][.{shared,shared::cta}].b16
movmatrix.sync.aligned.m8n8.trans.b16
mma.sync.aligned.m8n8k4.{row,col}.{row,col}.{f16,f32}.f16.f16.{f16,f32}
mma.sync.aligned.{m16n8k8,m16n8k16}.row.col.{f16,f32}.f16.f16.{f16,f32}
mma.sync.aligned.{m16n8k8,m16n8k16}.row.col.f32.bf16.bf16.f32
mma.sync.aligned.{m16n8k4,m16n8k8}.row.col.f32.tf32.tf32.f32
mma.sync.aligned.{m16n8k16,m16n8k32}.row.col.{f16,f32}.{e4m3,e5m2}.{e4m3,e5m2}.{f16,f32}
mma.sync.aligned.{m8n8k4,m16n8k4,m16n8k8,m16n8k16}.row.col.f64.f64.f64.f64
mma.sync.aligned.{m8n8k16,m16n8k16,m16n8k32}.row.col[.satfinite].s32.{u8,s8}.{u8,s8}.s32
mma.sync.aligned.{m8n8k32,m16n8k32,m16n8k64}.row.col[.satfinite].s32.{u4,s4}.{u4,s4}.s32
mma.sync.aligned.{m8n8k128,m16n8k128,m16n8k256}.row.col.s32.b1.b1.s32.{xor,and}.popc
wmma.load.{a,b}.sync.aligned.{row,col}.{m16n16k16,m8n32k16,m32n8k16}[.{global,shared,shared::cta}].{f16,bf16,s8,u8}
wmma.load.{a,b}.sync.aligned.{row,col}.m16n16k8[.{global,shared,shared::cta}].tf32
wmma.load.{a,b}.sync.aligned.{row,col}.m8n8k4[.{global,shared,shared::cta}].f64
wmma.load.{a,b}.sync.aligned.{row,col}.m8n8k32[.{global,shared,shared::cta}].{s4,u4}
wmma.load.{a,b}.sync.aligned.{row,col}.m8n8k128[.{global,shared,shared::cta}].b1
wmma.load.c.sync.aligned.{row,col}.{m16n16k16,m8n32k16,m32n8k16}[.{global,shared,shared::cta}].{f16,f32,s32}
wmma.load.c.sync.aligned.{row,col}.m16n16k8[.{global,shared,shared::cta}].f32
wmma.load.c.sync.aligned.{row,col}.m8n8k4[.{global,shared,shared::cta}].f64
wmma.load.c.sync.aligned.{row,col}.{m8n8k32,m8n8k128}[.{global,shared,shared::cta}].s32
wmma.mma.sync.aligned.{row,col}.{row,col}.{m16n16k16,m8n32k16,m32n8k16}.{f16,f32}.{f16,f32}
wmma.mma.sync.aligned.{row,col}.{row,col}.{m16n16k16,m8n32k16,m32n8k16}.f32.{f16.f16,bf16.bf16}.f32
wmma.mma.sync.aligned.{row,col}.{row,col}.{m16n16k16,m8n32k16,m32n8k16}.s32.{s8.s8,u8.u8}.s32[.satfinite]
wmma.mma.sync.aligned.{row,col}.{row,col}.m16n16k8.f32.tf32.tf32.f32
wmma.mma.sync.aligned.{row,col}.{row,col}.m8n8k4[.<rnd>].f64.f64.f64.f64
wmma.mma.sync.aligned.row.col.m8n8k32.s32.{s4.s4,u4.u4}.s32[.satfinite]
wmma.mma.{xor,and}.popc.sync.aligned.row.col.m8n8k128.s32.b1.b1.s32
wmma.store.d.sync.aligned.{row,col}.{m16n16k16,m8n32k16,m32n8k16}[.{global,shared,shared::cta}].{f16,f32,s32}
wmma.store.d.sync.aligned.{row,col}.m16n16k8[.{global,shared,shared::cta}].f32
wmma.store.d.sync.aligned.{row,col}.m8n8k4[.{global,shared,shared::cta}].f64
wmma.store.d.sync.aligned.{row,col}.{m8n8k32,m8n8k128}[.{global,shared,shared::cta}].s32
wgmma.fence.sync.aligned
wgmma.commit_group.sync.aligned
wgmma.wait_group.sync.aligned
wgmma.mma_async.sync.aligned.m64<n>k16.{f16,f32}.f16.f16
wgmma.mma_async.sync.aligned.m64<n>k16.f32.bf16.bf16
wgmma.mma_async.sync.aligned.m64<n>k8.f32.tf32.tf32
wgmma.mma_async.sync.aligned.m64<n>k32.{f16,f32}.{e4m3,e5m2}.{e4m3,e5m2}
wgmma.mma_async.sync.aligned.m64<n>k32[.satfinite].s32.{s8,u8}.{s8,u8}
wgmma.mma_async.sync.aligned.m64<n>k256.s32.b1.b1.and.popc",
    },
    Section {
        title: "Stack and miscellaneous",
        values: false,
        lines: "\
stacksave.u64
stackrestore.u64
alloca.u64
setmaxnreg.{inc,dec}.sync.aligned.u32
nanosleep.u32
pmevent[.mask]
trap
brkpt",
    },
];

/// Opcodes that the manual has and this emulator does not, and why.
pub const UNSUPPORTED: &[(&str, &str)] = &[
    ("tex", "textures"),
    ("tld4", "textures"),
    ("txq", "textures"),
    ("istypep", "textures"),
    ("suld", "surfaces"),
    ("sust", "surfaces"),
    ("sured", "surfaces"),
    ("suq", "surfaces"),
    ("multimem", "memory of several GPUs"),
    ("clusterlaunchcontrol", "needs sm_100"),
    ("tcgen05", "needs sm_100"),
];

/// A modifier of a form, or a group of them that go together.
struct Place {
    choices: Vec<Vec<String>>,
    optional: bool,
}

/// One line of a [`Section`].
pub struct Form {
    /// First word of the opcode.
    pub base: String,
    places: Vec<Place>,
    /// The operands, as written.
    pub operands: Vec<String>,
}

/// Expands `{a,b}` and `<set>` in a piece of a form.
fn choices(text: &str) -> Vec<String> {
    let Some(at) = text.find(['{', '<']) else { return vec![text.to_string()] };
    let (before, rest) = text.split_at(at);
    let (inner, after): (Vec<String>, &str) = if let Some(rest) = rest.strip_prefix('<') {
        let (name, after) = rest.split_once('>').unwrap_or((rest, ""));
        let set =
            SETS.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no set `{name}`"));
        (set.1.split(',').map(String::from).collect(), after)
    } else {
        let end = rest.find('}').unwrap_or_else(|| panic!("no end of `{rest}`"));
        (rest[1..end].split(',').flat_map(choices).collect(), &rest[end + 1..])
    };
    let tails = choices(after);
    inner.iter().flat_map(|i| tails.iter().map(move |t| format!("{before}{i}{t}"))).collect()
}

impl Form {
    /// Reads one line of a section.
    fn parse(line: &str) -> Form {
        let (opcode, operands) = line.split_once("  ").unwrap_or((line, ""));
        let mut places = Vec::new();
        let end = opcode.find(['.', '[']).unwrap_or(opcode.len());
        let mut rest = &opcode[end..];
        while !rest.is_empty() {
            let optional = rest.starts_with('[');
            let (text, after) = if optional {
                let end = rest.find(']').unwrap_or(rest.len() - 1);
                (&rest[2..end], &rest[end + 1..])
            } else {
                let end = piece_end(&rest[1..]) + 1;
                (&rest[1..end], &rest[end..])
            };
            let split = |c: String| c.split('.').map(String::from).collect();
            places
                .push(Place { choices: choices(text).into_iter().map(split).collect(), optional });
            rest = after;
        }
        Form {
            base: opcode[..end].to_string(),
            places,
            operands: operands.split(", ").filter(|o| !o.is_empty()).map(String::from).collect(),
        }
    }

    /// Whether the modifiers are this form's, in any order.
    fn accepts(&self, modifiers: &[&str], used: &mut [bool], place: usize) -> bool {
        let Some(here) = self.places.get(place) else { return used.iter().all(|u| *u) };
        for choice in &here.choices {
            let mut taken = Vec::new();
            for word in choice {
                let free = (0..modifiers.len()).find(|&i| !used[i] && modifiers[i] == word);
                if let Some(i) = free {
                    used[i] = true;
                    taken.push(i);
                }
            }
            let found = taken.len() == choice.len() && self.accepts(modifiers, used, place + 1);
            if found {
                return true;
            }
            taken.into_iter().for_each(|i| used[i] = false);
        }
        here.optional && self.accepts(modifiers, used, place + 1)
    }

    /// How many opcodes it stands for.
    pub fn count(&self) -> usize {
        self.places.iter().map(|p| p.choices.len() + usize::from(p.optional)).product()
    }

    /// Its opcodes, as the manual orders their modifiers.
    pub fn opcodes(&self) -> impl ExactSizeIterator<Item = String> + '_ {
        (0..self.count()).map(|index| self.opcode(index))
    }

    /// One opcode: each place takes a digit of `index`.
    fn opcode(&self, mut index: usize) -> String {
        let mut out = self.base.clone();
        for place in &self.places {
            let radix = place.choices.len() + usize::from(place.optional);
            let digit = index % radix;
            index /= radix;
            if let Some(choice) = place.choices.get(digit) {
                out.push('.');
                out.push_str(&choice.join("."));
            }
        }
        out
    }
}

/// Where a piece ends: at the first dot or bracket that is not in braces.
fn piece_end(text: &str) -> usize {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            '.' | '[' if depth == 0 => return i,
            _ => {}
        }
    }
    text.len()
}

/// The forms of a section.
pub fn forms(section: &Section) -> Vec<Form> {
    section.lines.lines().map(Form::parse).collect()
}

/// All forms by the first word of their opcode.
fn table() -> &'static HashMap<String, Vec<Form>> {
    static TABLE: OnceLock<HashMap<String, Vec<Form>>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table: HashMap<String, Vec<Form>> = HashMap::new();
        for form in SECTIONS.iter().flat_map(forms) {
            table.entry(form.base.clone()).or_default().push(form);
        }
        table
    })
}

/// Whether some form accepts this opcode.
pub(crate) fn is_supported(opcode: &str) -> bool {
    let mut words = opcode.split('.');
    let base = words.next().unwrap_or("");
    let modifiers: Vec<&str> = words.collect();
    let mut used = vec![false; modifiers.len()];
    table().get(base).is_some_and(|forms| forms.iter().any(|f| f.accepts(&modifiers, &mut used, 0)))
}

/// The first modifier that no form of the instruction has.
pub(crate) fn foreign_modifier(opcode: &str) -> Option<&str> {
    let mut words = opcode.split('.');
    let forms = table().get(words.next()?)?;
    let known = |word: &str| {
        let places = forms.iter().flat_map(|f| &f.places).flat_map(|p| &p.choices);
        places.flatten().any(|w| w == word)
    };
    words.find(|word| !known(word))
}

/// `docs/ptx-opcodes.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "# PTX opcodes\n\nGenerated from the decoder's table; `BLESS=1 cargo test -p gigac-emulator --test opcodes` \
         rewrites it.\nWhat is not in the table is an error that names the line, never a silent no-op.\n\n\
         `[.x]` may be left out, `{a,b}` is one of several, `<set>` one of a set listed at the end. Modifiers may stand in any\n\
         order. Types of sm_80 to sm_90; operands are those of the manual.\n",
    );
    for section in SECTIONS {
        let forms = forms(section);
        let count: usize = forms.iter().map(Form::count).sum();
        out.push_str(&format!("\n## {} ({count} opcodes)\n\n```\n", section.title));
        for line in section.lines.lines() {
            out.push_str(line.split_once("  ").map_or(line, |(opcode, _)| opcode));
            out.push('\n');
        }
        out.push_str("```\n");
    }
    out.push_str("\n## Not supported\n\n");
    for (name, why) in UNSUPPORTED {
        out.push_str(&format!("- `{name}`: {why}\n"));
    }
    out.push_str(
        "- `mma`, `cvt`, `ldmatrix` and others in the forms that need sm_100; the forms without `.sync` that sm_70 removed\n\
         - sparse products (`mma.sp`, `wgmma.mma_async.sp`), `fma.oob`, tensor copies in `.im2col` mode\n\n## Sets\n\n",
    );
    for (name, members) in SETS {
        out.push_str(&format!("- `<{name}>`: {}\n", members.replace(',', ", ")));
    }
    out
}
