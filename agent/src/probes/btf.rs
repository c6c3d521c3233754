//! What the running kernel's BTF says: where members lie, what enum values are. The one place that knows how
//! kernels differ in layout; it decides nothing, and a member that this kernel does not have is an answer.

use std::collections::HashMap;
use std::path::Path;

use btfparse::{Integer32Value, Offset, Readable, TypeInformation, TypeVariant};
use custody_abi::offsets::ABSENT;

/// Where kernels put their type information.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why there is no type information.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file is not there or not readable.
    #[error(
        "{path} cannot be read ({source}): without the kernel's type information no probe can be placed; \
         use a kernel with CONFIG_DEBUG_INFO_BTF=y"
    )]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no BTF, or damaged.
    #[error("{path} is no type information that this agent understands: {reason}")]
    Parse {
        /// Which file.
        path: String,
        /// What the parser said.
        reason: String,
    },
}

/// Type information of one kernel.
pub struct Btf {
    types: TypeInformation,
    structs: HashMap<String, u32>,
}

impl Btf {
    /// Reads a BTF file, [`KERNEL_BTF`] or a recorded one.
    pub fn read(path: &Path) -> Result<Btf, BtfError> {
        let shown = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|source| BtfError::Read { path: shown.clone(), source })?;
        let types = TypeInformation::new(&Bytes(bytes))
            .map_err(|error| BtfError::Parse { path: shown, reason: error.message().to_owned() })?;
        // Functions and typedefs share names with structs, so the crate's own index is not enough.
        let structs = types
            .get()
            .iter()
            .filter_map(|(id, variant)| match variant {
                TypeVariant::Struct(of) => Some((of.name().clone()?, *id)),
                _ => None,
            })
            .collect();
        Ok(Btf { types, structs })
    }

    /// Offset of a member in bytes, the first of `paths` that this kernel has; [`ABSENT`] when it has none.
    /// A path may end in `[N]`, an element of an array of 64-bit words. Bit fields have no byte offset.
    pub fn offset(&self, owner: &str, paths: &[&str]) -> u32 {
        let Some(id) = self.structs.get(owner) else { return ABSENT };
        paths.iter().find_map(|path| self.member(*id, path)).unwrap_or(ABSENT)
    }

    fn member(&self, id: u32, path: &str) -> Option<u32> {
        let (path, element) = match path.split_once('[') {
            None => (path, 0),
            Some((path, index)) => (path, index.strip_suffix(']')?.parse::<u32>().ok()?),
        };
        match self.types.offset_of(id, path).ok()?.1 {
            Offset::ByteOffset(bytes) => Some(bytes + 8 * element),
            Offset::BitOffsetAndSize(..) => None,
        }
    }

    /// Whether the kernel has a struct of this name.
    pub fn has_struct(&self, name: &str) -> bool {
        self.structs.contains_key(name)
    }

    /// A value of an enum, by the enum's and the value's name.
    pub fn enum_value(&self, owner: &str, value: &str) -> Option<u32> {
        self.types.get().values().find_map(|variant| match variant {
            TypeVariant::Enum(of) if of.name().as_deref() == Some(owner) => {
                of.named_value_list().iter().find(|named| named.name == value).map(|named| match named.value {
                    Integer32Value::Signed(number) => number as u32,
                    Integer32Value::Unsigned(number) => number,
                })
            }
            _ => None,
        })
    }

    /// Every offset that the kernel side wants, by the name of its global.
    pub fn offsets(&self) -> Vec<(&'static str, u32)> {
        macro_rules! all {
            ($($name:ident = $owner:literal, [$($path:literal),*];)*) => {
                vec![$((stringify!($name), self.offset($owner, &[$($path),*]))),*]
            };
        }
        custody_abi::kernel_offsets!(all)
    }
}

struct Bytes(Vec<u8>);

impl Readable for Bytes {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        match self.0.get(start..end) {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(btfparse::Error::new(btfparse::ErrorKind::EOF, "the file ends before its types do")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_what_the_socket_probes_read() {
        let btf = Btf::read(Path::new(KERNEL_BTF)).unwrap();
        assert_eq!(btf.offset("socket_alloc", &["socket"]), 0);
        assert_ne!(btf.offset("sock", &["__sk_common.skc_family"]), ABSENT);
        assert_ne!(btf.offset("tcp_sock", &["copied_seq"]), ABSENT);
        assert!(btf.enum_value("iter_type", "ITER_IOVEC").is_some());
    }

    #[test]
    fn a_renamed_member_is_found_by_its_other_name_and_a_missing_one_is_absent() {
        let btf = Btf::read(Path::new(KERNEL_BTF)).unwrap();
        let known = btf.offset("sock", &["__sk_common.skc_family"]);
        assert_eq!(btf.offset("sock", &["no_such_member", "__sk_common.skc_family"]), known);
        assert_eq!(btf.offset("sock", &["no_such_member"]), ABSENT);
        assert_eq!(btf.offset("no_such_struct", &["member"]), ABSENT);
    }

    #[test]
    fn what_is_no_btf_is_an_error_that_names_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"no type information").unwrap();
        let error = Btf::read(file.path()).err().unwrap().to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
    }
}
