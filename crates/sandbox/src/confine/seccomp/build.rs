//! A small vocabulary for writing filters as lists.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

use crate::spec::{SetupFailure, Stage};

/// Calls and the conditions under which they match.
#[derive(Debug, Default)]
pub(super) struct Calls(BTreeMap<i64, Vec<SeccompRule>>);

/// One comparison of one argument.
#[derive(Debug, Clone)]
pub(super) struct Test {
    argument: u8,
    width: SeccompCmpArgLen,
    compare: SeccompCmpOp,
    value: u64,
}

impl Test {
    /// The lower 32 bits equal `value`; for arguments that the kernel reads as an `int`.
    pub(super) fn int_is(argument: u8, value: i32) -> Self {
        Self {
            argument,
            width: SeccompCmpArgLen::Dword,
            compare: SeccompCmpOp::Eq,
            value: low(value),
        }
    }

    /// The lower 32 bits differ from `value`.
    pub(super) fn int_is_not(argument: u8, value: i32) -> Self {
        Self {
            argument,
            width: SeccompCmpArgLen::Dword,
            compare: SeccompCmpOp::Ne,
            value: low(value),
        }
    }

    /// Of the lower 32 bits, those in `mask` equal `value`.
    pub(super) fn int_masked(argument: u8, mask: i32, value: i32) -> Self {
        let compare = SeccompCmpOp::MaskedEq(low(mask));
        Self {
            argument,
            width: SeccompCmpArgLen::Dword,
            compare,
            value: low(value),
        }
    }

    /// All 64 bits are zero; for pointers.
    pub(super) fn is_null(argument: u8) -> Self {
        Self {
            argument,
            width: SeccompCmpArgLen::Qword,
            compare: SeccompCmpOp::Eq,
            value: 0,
        }
    }

    /// Of all 64 bits, those in `mask` are zero.
    pub(super) fn none_of(argument: u8, mask: i32) -> Self {
        let compare = SeccompCmpOp::MaskedEq(low(mask));
        Self {
            argument,
            width: SeccompCmpArgLen::Qword,
            compare,
            value: 0,
        }
    }
}

fn low(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

impl Calls {
    /// These calls match whatever their arguments.
    pub(super) fn all(&mut self, numbers: &[libc::c_long]) -> &mut Self {
        for number in numbers {
            // An empty list of rules means "always"; it would widen a call that has conditions.
            let rules = self.0.entry(*number).or_default();
            debug_assert!(
                rules.is_empty(),
                "call {number} is named with and without conditions"
            );
        }
        self
    }

    /// This call matches when every test holds. Named more than once, it matches when one of the lists holds.
    pub(super) fn when(
        &mut self,
        number: libc::c_long,
        tests: &[Test],
    ) -> Result<&mut Self, SetupFailure> {
        let mut conditions = Vec::new();
        for test in tests {
            let test = test.clone();
            conditions.push(
                SeccompCondition::new(test.argument, test.width, test.compare, test.value)
                    .map_err(broken)?,
            );
        }
        self.0
            .entry(number)
            .or_default()
            .push(SeccompRule::new(conditions).map_err(broken)?);
        Ok(self)
    }

    /// Matching calls are allowed, all others fail with `EPERM`.
    pub(super) fn allowlist(self) -> Result<BpfProgram, SetupFailure> {
        self.compile(SeccompAction::Errno(EPERM), SeccompAction::Allow)
    }

    /// Matching calls fail with `errno`, all others are allowed.
    pub(super) fn denylist(self, errno: u32) -> Result<BpfProgram, SetupFailure> {
        let mut program = self.compile(SeccompAction::Allow, SeccompAction::Errno(errno))?;
        guard_x32(&mut program);
        Ok(program)
    }

    fn compile(
        self,
        otherwise: SeccompAction,
        matched: SeccompAction,
    ) -> Result<BpfProgram, SetupFailure> {
        let arch = std::env::consts::ARCH.try_into().map_err(broken)?;
        SeccompFilter::new(self.0, otherwise, matched, arch)
            .and_then(TryInto::try_into)
            .map_err(broken)
    }
}

/// On x86-64 the kernel accepts a second set of numbers (x32: bit 30 set) for the same calls, which no list
/// of ordinary numbers matches. An allowlist refuses them by itself; a denylist needs this in front.
fn guard_x32(program: &mut BpfProgram) {
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const OFFSET_OF_NUMBER: u32 = 0;
    const FIRST_X32: u32 = 0x4000_0000;
    const RETURN_ERRNO: u32 = 0x0005_0000;
    let guard = [
        sock_filter {
            code: LOAD_WORD,
            jt: 0,
            jf: 0,
            k: OFFSET_OF_NUMBER,
        },
        sock_filter {
            code: JUMP_IF_AT_LEAST,
            jt: 0,
            jf: 1,
            k: FIRST_X32,
        },
        sock_filter {
            code: RETURN,
            jt: 0,
            jf: 0,
            k: RETURN_ERRNO | EPERM,
        },
    ];
    // A call by another architecture's door is killed by the compiled program's own first test; its numbers
    // never reach the bit.
    program.splice(0..0, guard);
}

fn broken(error: impl std::fmt::Display) -> SetupFailure {
    SetupFailure::refused(Stage::Seccomp, format!("compile the filter: {error}"))
}

pub(super) const EPERM: u32 = 1;
pub(super) const ENOSYS: u32 = 38;
