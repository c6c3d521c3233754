//! How much stack each program of the kernel object needs, callees included. Kernels before 6.13 refuse a program
//! that needs more than 512 bytes; newer ones give some programs a stack for each function, so a machine with one of
//! those would load what most hosts refuse.
//!
//! Must not: run anything. It reads the object's instructions (RFC 9669).

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind, SymbolKind};

/// `MAX_BPF_STACK` of the kernel.
const STACK_BYTES_MAX: u64 = 512;
/// What the kernel rounds each frame up to.
const FRAME_BYTES: u64 = 32;
const INSTRUCTION_BYTES: usize = 8;
/// The frame pointer.
const R10: u8 = 10;

/// A function by its section and its place in it.
type Place = (usize, u64);

struct Function {
    name: String,
    /// Bytes below the frame pointer that it touches.
    frame: u64,
    calls: Vec<Place>,
}

/// Refuses an object that a kernel would refuse for its stack, and says by which calls.
pub(super) fn check(object: &[u8]) -> Result<()> {
    let functions = functions(object)?;
    let (bytes, chain) = functions
        .keys()
        .map(|place| deepest(&functions, *place, &mut Vec::new()))
        .max()
        .context("the kernel object holds no function")?;
    if bytes > STACK_BYTES_MAX {
        bail!(
            "the kernel side needs {bytes} bytes of stack, kernels before 6.13 give {STACK_BYTES_MAX}: {}",
            chain.join(" calls ")
        );
    }
    println!("build-ebpf: {bytes} of {STACK_BYTES_MAX} bytes of stack, by {}", chain.join(" > "));
    Ok(())
}

/// Most stack from this function on, and the calls that lead there. The kernel admits no recursion.
fn deepest(
    functions: &BTreeMap<Place, Function>,
    place: Place,
    above: &mut Vec<Place>,
) -> (u64, Vec<String>) {
    let Some(function) = functions.get(&place).filter(|_| !above.contains(&place)) else {
        return (0, Vec::new());
    };
    above.push(place);
    let (below, mut chain) =
        function.calls.iter().map(|call| deepest(functions, *call, above)).max().unwrap_or_default();
    above.pop();
    chain.insert(0, format!("{} ({})", function.name, function.frame));
    (function.frame.max(1).next_multiple_of(FRAME_BYTES) + below, chain)
}

fn functions(object: &[u8]) -> Result<BTreeMap<Place, Function>> {
    let file = object::File::parse(object).context("the kernel object is no ELF file")?;
    let mut functions = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let Some(index) = symbol.section_index() else { continue };
        let section = file.section_by_index(index)?;
        if section.kind() != SectionKind::Text {
            continue;
        }
        let targets: BTreeMap<u64, Place> = section
            .relocations()
            .filter_map(|(offset, relocation)| {
                let RelocationTarget::Symbol(target) = relocation.target() else { return None };
                let target = file.symbol_by_index(target).ok()?;
                Some((offset, (target.section_index()?.0, target.address())))
            })
            .collect();
        let code =
            section.data()?.get(symbol.address() as usize..).context("a function outside its section")?;
        let code = code.get(..symbol.size() as usize).context("a function longer than its section")?;
        let (frame, calls) = read(code, symbol.address(), index.0, &targets);
        let name = symbol.name()?.to_owned();
        functions.insert((index.0, symbol.address()), Function { name, frame, calls });
    }
    Ok(functions)
}

/// Frame and calls of the function whose code begins at `start` of its section.
fn read(code: &[u8], start: u64, section: usize, targets: &BTreeMap<u64, Place>) -> (u64, Vec<Place>) {
    let (mut frame, mut calls) = (0, Vec::new());
    // The register that was set to the frame pointer by the instruction before.
    let mut copy = None;
    for (number, instruction) in code.chunks_exact(INSTRUCTION_BYTES).enumerate() {
        let at = start + (number * INSTRUCTION_BYTES) as u64;
        let (operation, registers) = (instruction[0], instruction[1]);
        let (target, source) = (registers & 0x0f, registers >> 4);
        let offset = i64::from(i16::from_le_bytes([instruction[2], instruction[3]]));
        let immediate =
            i64::from(i32::from_le_bytes([instruction[4], instruction[5], instruction[6], instruction[7]]));
        let touched = match operation {
            // LDX reads below the pointer in its source, ST and STX write below the one in their target.
            _ if operation & 0x07 == 0x01 && source == R10 => -offset,
            _ if matches!(operation & 0x07, 0x02 | 0x03) && target == R10 => -offset,
            // ADD64 of a constant to a copy.
            0x07 if copy == Some(target) => -immediate,
            _ => 0,
        };
        frame = frame.max(u64::try_from(touched).unwrap_or(0));
        // MOV64 from the frame pointer.
        copy = (operation == 0xbf && source == R10).then_some(target);
        // CALL of a function, not of a helper.
        if operation == 0x85 && source == 1 {
            let behind = |from: u64| from.wrapping_add_signed((immediate + 1) * INSTRUCTION_BYTES as i64);
            calls.push(match targets.get(&at) {
                // Beside the symbol of a section stands the place in it, beside a function's nothing.
                Some((section, address)) => (*section, behind(*address)),
                None => (section, behind(at)),
            });
        }
    }
    (frame, calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_off_every_way_to_use_the_frame_pointer() {
        let section = 1;
        // *(u64 *)(r10 - 16) = r1; r2 = r10; r2 += -40; call +1; exit
        let code = [
            [0x7b, 0x1a, 0xf0, 0xff, 0, 0, 0, 0],
            [0xbf, 0xa2, 0, 0, 0, 0, 0, 0],
            [0x07, 0x02, 0, 0, 0xd8, 0xff, 0xff, 0xff],
            [0x85, 0x10, 0, 0, 1, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(read(&code.concat(), 80, section, &BTreeMap::new()), (40, vec![(section, 120)]));
    }

    #[test]
    fn the_deepest_calls_are_found_and_each_frame_is_rounded_up() {
        let place = |address| (1, address);
        let function = |name: &str, frame, calls: &[u64]| Function {
            name: name.to_owned(),
            frame,
            calls: calls.iter().map(|address| place(*address)).collect(),
        };
        let functions = BTreeMap::from([
            (place(0), function("program", 40, &[8, 16])),
            (place(8), function("leaf", 0, &[])),
            (place(16), function("middle", 33, &[8])),
        ]);
        let (bytes, chain) = deepest(&functions, place(0), &mut Vec::new());
        assert_eq!((bytes, chain.len()), (64 + 64 + 32, 3), "{chain:?}");
    }
}
