//! Which function has which programs of the kernel object, and attaching them to a file.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use aya::Ebpf;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeLink, UProbeScope};
use aya::programs::{ProgramError, UProbe};

/// A function of the library that is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function(usize);

struct Row {
    symbol: &'static str,
    programs: &'static [&'static str],
    moves_plaintext: bool,
    /// It returns the table of a transport, and the function that is probed is the one that writes there.
    is_table: bool,
}

const fn data(symbol: &'static str, programs: &'static [&'static str]) -> Row {
    Row { symbol, programs, moves_plaintext: true, is_table: false }
}

const fn life(symbol: &'static str, programs: &'static [&'static str]) -> Row {
    Row { symbol, programs, moves_plaintext: false, is_table: false }
}

const fn table(symbol: &'static str, programs: &'static [&'static str]) -> Row {
    Row { symbol, programs, moves_plaintext: false, is_table: true }
}

/// Return programs come before entry programs: an entry without its return would leave its frame behind.
/// Objects' lives come first, so that no plaintext of a new object is taken for that of an old one.
const FUNCTIONS: [Row; 19] = [
    life("SSL_set_fd", &["ssl_set_fd"]),
    life("SSL_set_rfd", &["ssl_set_fd"]),
    life("SSL_set_wfd", &["ssl_set_fd"]),
    life("SSL_set_bio", &["ssl_set_bio"]),
    life("SSL_set0_rbio", &["ssl_set_bio"]),
    life("SSL_set0_wbio", &["ssl_set_bio"]),
    life("SSL_free", &["ssl_free"]),
    life("SSL_clear", &["ssl_clear"]),
    life("SSL_do_handshake", &["ssl_do_handshake_return", "ssl_do_handshake"]),
    data("SSL_read", &["ssl_read_return", "ssl_read"]),
    data("SSL_read_ex", &["ssl_read_ex_return", "ssl_read_ex"]),
    data("SSL_write", &["ssl_write_return", "ssl_write"]),
    data("SSL_write_ex", &["ssl_write_ex_return", "ssl_write_ex"]),
    data("SSL_read_early_data", &["ssl_read_early_data_return", "ssl_read_early_data"]),
    data("SSL_write_early_data", &["ssl_write_early_data_return", "ssl_write_early_data"]),
    data("SSL_sendfile", &["ssl_sendfile_return", "ssl_sendfile"]),
    table("BIO_s_mem", &["bio_write"]),
    table("BIO_s_bio", &["bio_write"]),
    // Node's own: `node::crypto::NodeBIO::Write(bio_st*, char const*, int)`.
    life("_ZN4node6crypto7NodeBIO5WriteEP6bio_stPKci", &["bio_write"]),
];

impl Function {
    pub(super) fn of_symbol(name: &[u8]) -> Option<Self> {
        if ![b"SSL_", b"BIO_", b"_ZN4"].iter().any(|start| name.starts_with(*start)) {
            return None;
        }
        FUNCTIONS.iter().position(|row| row.symbol.as_bytes() == name).map(Self)
    }

    /// Its name in the library.
    pub fn symbol(self) -> &'static str {
        FUNCTIONS[self.0].symbol
    }

    /// Programs of the kernel object, in the order to attach them.
    pub fn programs(self) -> &'static [&'static str] {
        FUNCTIONS[self.0].programs
    }

    /// Whether the symbol leads to the function that is probed by way of a table.
    pub(super) fn is_table(self) -> bool {
        FUNCTIONS[self.0].is_table
    }

    /// Whether it is how ciphertext gets into a transport in memory.
    pub(super) fn is_transport(self) -> bool {
        self.programs() == ["bio_write"]
    }

    pub(super) fn moves_plaintext(self) -> bool {
        FUNCTIONS[self.0].moves_plaintext
    }
}

/// Whatever can attach the probes of a function: the kernel, or a test.
pub trait Attach {
    /// Detaches when dropped.
    type Link;
    /// Why not.
    type Error: std::fmt::Display;

    /// Attaches all programs of the function at this offset of the file, for all processes.
    ///
    /// # Errors
    /// When the kernel refuses; then none of the function's programs stays attached.
    fn attach(
        &mut self,
        function: Function,
        file: &File,
        offset: u64,
    ) -> Result<Vec<Self::Link>, Self::Error>;

    /// Forgets the TLS objects of processes that ended; returns how many.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn forget_dead(&mut self, is_alive: &dyn Fn(u32) -> bool) -> Result<u64, Self::Error>;
}

/// Why the programs cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel object is of another build.
    #[error("the kernel object has no program {0}: build it again with `cargo xtask build-ebpf`")]
    Missing(&'static str),
    /// The objects cannot be reached.
    #[error("the map of TLS objects: {0}")]
    Objects(#[from] aya::maps::MapError),
    /// The kernel refused.
    #[error("the kernel refuses the TLS probe {program}: {source}")]
    Refused {
        /// Which.
        program: &'static str,
        /// Why.
        source: ProgramError,
    },
}

/// Loads all programs of the TLS probes; those that are loaded stay as they are.
///
/// # Errors
/// The first program that is missing or refused.
pub fn load(kernel: &mut Ebpf) -> Result<(), LoadError> {
    for name in FUNCTIONS.iter().flat_map(|row| row.programs) {
        let program = program(kernel, name)?;
        if program.fd().is_err() {
            program.load().map_err(|source| LoadError::Refused { program: name, source })?;
        }
    }
    Ok(())
}

fn program<'a>(kernel: &'a mut Ebpf, name: &'static str) -> Result<&'a mut UProbe, LoadError> {
    let program = kernel.program_mut(name).ok_or(LoadError::Missing(name))?;
    program.try_into().map_err(|source| LoadError::Refused { program: name, source })
}

impl Attach for Ebpf {
    type Link = UProbeLink;
    type Error = LoadError;

    fn attach(&mut self, function: Function, file: &File, offset: u64) -> Result<Vec<UProbeLink>, LoadError> {
        // The open file itself, whatever its path means in our mount namespace, or that it is deleted.
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let mut links = Vec::new();
        for name in function.programs() {
            let refused = |source| LoadError::Refused { program: name, source };
            let program = program(self, name)?;
            let location = UProbeAttachLocation::AbsoluteOffset(offset);
            let link = program.attach(location, &path, UProbeScope::AllProcesses).map_err(refused)?;
            links.push(program.take_link(link).map_err(refused)?);
        }
        Ok(links)
    }

    fn forget_dead(&mut self, is_alive: &dyn Fn(u32) -> bool) -> Result<u64, LoadError> {
        Ok(super::objects::forget_dead(self, is_alive)?)
    }
}
