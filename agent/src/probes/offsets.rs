//! Where the members of the running kernel's structures lie, and which tracepoints it has: looked up in its
//! BTF, so that nothing is guessed from a version.
//!
//! Must not: fall back to numbers of another kernel.

use super::ProbeError;
use btfparse::{Offset, Readable, TypeInformation, TypeVariant};
use custody_abi::offsets::ABSENT;
use std::path::Path;

/// What the loader needs to know of the running kernel.
pub(crate) struct Kernel {
    types: TypeInformation,
    pub(crate) offsets: Vec<(&'static str, u32)>,
    pub(crate) iter_ubuf: u32,
    pub(crate) iter_iovec: u32,
    pub(crate) memory_subsystem: u32,
}

/// Members that only some kernels or machines have; without them a part of what is told is missing, and the
/// kernel side knows.
const OPTIONAL: [&str; 7] = [
    "TASK_COMPAT_STATUS",
    "REGS_RESULT",
    "REGS_BX",
    "REGS_CX",
    "TASK_LOGINUID",
    "TASK_SESSIONID",
    "ITER_TYPE",
];

macro_rules! list {
    ($($name:ident = $owner:literal, [$($path:literal),*];)*) => {
        &[$((stringify!($name), $owner, &[$($path),*] as &[&str])),*]
    };
}
/// The shared list: global, structure, alternatives of the member.
const MEMBERS: &[(&str, &str, &[&str])] = custody_abi::kernel_offsets!(list);

struct Bytes(Vec<u8>);

impl Readable for Bytes {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes =
            start.checked_add(buffer.len()).and_then(|end| self.0.get(start..end)).ok_or_else(|| {
                btfparse::Error::new(btfparse::ErrorKind::IOError, "BTF ends before its own lengths say")
            })?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl Kernel {
    pub(crate) fn read(sys: &Path) -> Result<Self, ProbeError> {
        let path = sys.join("kernel/btf/vmlinux");
        let bytes = std::fs::read(&path)
            .map_err(|source| ProbeError::Btf { path: path.display().to_string(), source })?;
        let types = TypeInformation::new(&Bytes(bytes))
            .map_err(|error| ProbeError::BtfDamaged(error.message().to_owned()))?;
        let mut offsets = Vec::with_capacity(MEMBERS.len());
        for (name, owner, members) in MEMBERS {
            let offset = members.iter().find_map(|member| member_offset(&types, owner, member));
            match offset {
                Some(offset) => offsets.push((*name, offset)),
                None if OPTIONAL.contains(name) => offsets.push((*name, ABSENT)),
                None => {
                    return Err(ProbeError::NoMember {
                        owner: (*owner).to_owned(),
                        member: members.join(" or "),
                    });
                }
            }
        }
        Ok(Self {
            iter_ubuf: enum_value(&types, "ITER_UBUF").unwrap_or(ABSENT),
            iter_iovec: enum_value(&types, "ITER_IOVEC").unwrap_or(ABSENT),
            memory_subsystem: enum_value(&types, "memory_cgrp_id").unwrap_or(ABSENT),
            offsets,
            types,
        })
    }

    /// Whether the kernel declares this tracepoint; each has a type of its own.
    pub(crate) fn has_tracepoint(&self, name: &str) -> bool {
        self.types.id_of(&format!("btf_trace_{name}")).is_some()
    }
}

fn member_offset(types: &TypeInformation, owner: &str, member: &str) -> Option<u32> {
    let id = types.id_of(owner)?;
    match types.offset_of(id, member).ok()?.1 {
        Offset::ByteOffset(bytes) => Some(bytes),
        Offset::BitOffsetAndSize(..) => None,
    }
}

/// The value of an enumerator, wherever it stands.
fn enum_value(types: &TypeInformation, name: &str) -> Option<u32> {
    types.get().values().find_map(|variant| match variant {
        TypeVariant::Enum(list) => list.named_value_list().iter().find_map(|value| {
            (value.name == name).then_some(match value.value {
                btfparse::Integer32Value::Signed(value) => value.cast_unsigned(),
                btfparse::Integer32Value::Unsigned(value) => value,
            })
        }),
        _ => None,
    })
}
