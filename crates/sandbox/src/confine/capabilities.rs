//! Taking every capability away, for good.
//!
//! After this, uid 0 is only the owner of its files: it cannot override permissions, mount, trace or bind
//! low ports, and no program it starts gets anything back.

use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities,
    capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
    set_no_new_privs,
};

use crate::spec::{OrFail, SetupFailure, Stage};

// BOUND: capabilities are numbered from 0; a 64-bit set has no more.
const MAX_CAPABILITY: u32 = 63;

/// No program that this process runs, or that those run, gains a user, a group or a capability that it does not
/// have. The kernel wants it before Landlock and seccomp as well, unless a process is privileged.
pub(crate) fn gain_none() -> Result<(), SetupFailure> {
    set_no_new_privs(true).or_fail(Stage::Capabilities, "set no_new_privs")
}

/// Drops all capabilities from every set.
pub(crate) fn drop_all() -> Result<(), SetupFailure> {
    const STAGE: Stage = Stage::Capabilities;
    clear_ambient_capability_set().or_fail(STAGE, "clear the ambient set")?;
    let held = capabilities(None).or_fail(STAGE, "read the capabilities")?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for bit in 0..=MAX_CAPABILITY {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            match capability_is_in_bounding_set(capability) {
                // Beyond the last one that this kernel knows.
                Err(_) => break,
                Ok(false) => {}
                Ok(true) => {
                    remove_capability_from_bounding_set(capability)
                        .or_fail(STAGE, "shrink the bounding set")?;
                }
            }
        }
        let locked = CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
        set_capabilities_secure_bits(locked).or_fail(STAGE, "lock the secure bits")?;
    }
    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )
    .or_fail(STAGE, "empty the capability sets")?;
    let left = capabilities(None).or_fail(STAGE, "read the capabilities back")?;
    if left.effective.is_empty() && left.permitted.is_empty() && left.inheritable.is_empty() {
        Ok(())
    } else {
        Err(SetupFailure::refused(
            STAGE,
            "capabilities are left after all were dropped",
        ))
    }
}
