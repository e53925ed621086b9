use super::made::Made;
use super::*;
use crate::Platform;
use proptest::prelude::*;

const LIBRARY: Made<'static> = Made {
    soname: "libmpich.so.12",
    needed: &["libucp.so.0", "libc.so.6"],
    runpath: "$ORIGIN/../lib:/opt/x",
    needs: &[("libc.so.6", "GLIBC_2.34"), ("libgfortran.so.5", "GFORTRAN_8")],
    defines: &["libmpich.so.12", "MPICH_1"],
    takes: &["ucp_init", "malloc"],
    gives: &["MPI_Init", "MPI_Finalize"],
    machine: 62,
    narrow: false,
};

#[test]
fn a_library_says_its_name_and_what_it_needs() {
    for narrow in [false, true] {
        let file = Made { narrow, ..LIBRARY }.file();
        let elf = Elf::read(file.as_slice()).unwrap();
        assert_eq!(elf.soname().unwrap(), "libmpich.so.12");
        assert_eq!(elf.needed(), ["libucp.so.0", "libc.so.6"]);
        assert_eq!(elf.search_path(), ["$ORIGIN/../lib", "/opt/x"]);
        let need =
            |(of, version): &(&str, &str)| Need { of: (*of).into(), version: (*version).into() };
        assert_eq!(elf.needs(), LIBRARY.needs.iter().map(need).collect::<Vec<_>>());
        assert_eq!(elf.defines(), LIBRARY.defines);
        let symbols = elf.symbols();
        assert_eq!(symbols.needed, ["malloc", "ucp_init"].map(str::to_owned).into());
        assert_eq!(symbols.defined, ["MPI_Finalize", "MPI_Init"].map(str::to_owned).into());
        let here = Platform::of("x86_64").unwrap();
        assert_eq!(here.loads(elf.machine()), !narrow);
    }
}

#[test]
fn what_no_loader_would_load_is_no_library() {
    let file = LIBRARY.file();
    let with = |at: usize, byte: u8| {
        let mut file = file.clone();
        file[at] = byte;
        file
    };
    // A program, a file of the other byte order, no ELF file, one cut off.
    for other in [with(16, 2), with(5, 2), with(0, b'#'), file[..70].to_vec(), Vec::new()] {
        assert!(Elf::read(other.as_slice()).is_none());
    }
    let strange = Elf::read(file.as_slice()).unwrap().machine();
    assert!(!Platform::of("aarch64").unwrap().loads(strange));
}

#[test]
fn a_name_is_one_component_of_a_path() {
    for soname in ["../../etc/passwd", "lib/x.so", "lib\u{1b}[2J.so", "lib x.so", ".."] {
        let file = Made { soname, ..LIBRARY }.file();
        assert_eq!(Elf::read(file.as_slice()).unwrap().soname(), None, "{soname:?}");
    }
}

#[test]
fn tables_that_lead_in_a_circle_end() {
    let mut file = LIBRARY.file();
    // The second list of needed versions follows itself.
    let at = file.windows(4).position(|w| w == [1, 0, 1, 0]).unwrap();
    file[at + 12..at + 16].copy_from_slice(&u32::MAX.to_le_bytes());
    let _ = Elf::read(file.as_slice()).unwrap().needs();
    let mut file = LIBRARY.file();
    file[at + 16 + 12..at + 16 + 16].copy_from_slice(&1_u32.to_le_bytes());
    let _ = Elf::read(file.as_slice()).unwrap().needs();
}

#[test]
fn of_a_strangers_symbols_only_the_wanted_are_kept_and_none_that_is_endless() {
    let long = "x".repeat(LONGEST_SYMBOL);
    let file = Made { gives: &["MPI_Init", "MPI_Finalize", &long], ..LIBRARY }.file();
    let elf = Elf::read(file.as_slice()).unwrap();
    assert_eq!(elf.symbols().defined.len(), 2);
    let symbols = elf.symbols_of(|name| name == "MPI_Init" || name == "malloc");
    assert_eq!(symbols.defined, ["MPI_Init".to_owned()].into());
    assert_eq!(symbols.needed, ["malloc".to_owned()].into());
    let version = "V".repeat(LONGEST_VERSION + 1);
    let file = Made { defines: &[&version, "MPICH_1"], ..LIBRARY }.file();
    assert_eq!(Elf::read(file.as_slice()).unwrap().defines(), ["MPICH_1"]);
}

#[test]
fn a_table_beyond_the_end_of_all_numbers_is_none() {
    for narrow in [false, true] {
        let mut file = Made { narrow, ..LIBRARY }.file();
        let at = if narrow { 28 } else { 32 };
        file[at..at + if narrow { 4 } else { 8 }].fill(0xff);
        assert!(Elf::read(file.as_slice()).is_none());
    }
}

proptest! {
    #[test]
    fn no_file_is_a_crash(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        changes in prop::collection::vec((0_usize..900, any::<u8>()), 0..8),
        cut in 0_usize..900,
        narrow: bool,
    ) {
        let mut made = Made { narrow, ..LIBRARY }.file();
        for (at, byte) in changes {
            if let Some(place) = made.get_mut(at) {
                *place = byte;
            }
        }
        made.truncate(cut.max(100));
        for file in [bytes, made] {
            if let Some(elf) = Elf::read(file.as_slice()) {
                let names = elf.soname().into_iter().chain(elf.needed()).chain(elf.defines());
                prop_assert!(names.into_iter().all(|name| is_name(&name)));
                let _ = (elf.search_path(), elf.needs(), elf.symbols());
            }
        }
    }
}
