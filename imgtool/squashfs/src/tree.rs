//! The tree: inodes, directories, and the tables that end the image.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::data::{Contents, Writer};
use crate::directory::{self, Entry};
use crate::inode::{Head, Kind, Meta, Special};
use crate::metadata::{Place, Table};
use crate::xattr::{Sets, Xattrs};
use crate::{NAME_MAX, invalid};

/// Names compress well, also where contents are left as they are.
const METADATA_LEVEL: i32 = 3;

/// An inode with several names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode(u32);

/// Takes names, depth first; in each directory in the order of their bytes.
#[derive(Debug)]
pub struct Tree<W: Read + Write + Seek> {
    data: Writer<W>,
    inodes: Table,
    directories: Table,
    xattrs: Sets,
    ids: Vec<u32>,
    id_places: HashMap<u32, u16>,
    numbers: u32,
    open: Vec<Open>,
    /// Inodes with names still to come.
    shared: HashMap<Inode, Shared>,
    root: Option<Place>,
}

#[derive(Debug)]
struct Open {
    name: Box<[u8]>,
    meta: Meta,
    number: u32,
    subdirectories: u32,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Shared {
    missing: u32,
    inode: Place,
    kind: Kind,
}

impl<W: Read + Write + Seek> Tree<W> {
    pub(crate) fn new(data: Writer<W>) -> io::Result<Self> {
        let level = data.options.level.unwrap_or(METADATA_LEVEL);
        Ok(Self {
            data,
            inodes: Table::new(level)?,
            directories: Table::new(level)?,
            xattrs: Sets::new(level)?,
            ids: Vec::new(),
            id_places: HashMap::new(),
            numbers: 0,
            open: Vec::new(),
            shared: HashMap::new(),
            root: None,
        })
    }

    /// A set of extended attributes, before whatever has it; gives its number for [`Meta`].
    pub fn xattrs(&mut self, all: &Xattrs) -> io::Result<u32> {
        self.xattrs.add(all)
    }

    /// Enters a directory; the first one is the root, whose name is empty.
    pub fn enter(&mut self, name: &[u8], meta: Meta) -> io::Result<()> {
        if self.open.is_empty() {
            if self.root.is_some() || !name.is_empty() {
                return Err(invalid("the tree has one root, without name"));
            }
        } else {
            self.check(name)?;
        }
        let number = self.number()?;
        let name = name.into();
        self.open.push(Open { name, meta, number, subdirectories: 0, entries: Vec::new() });
        Ok(())
    }

    /// Leaves the directory entered last.
    pub fn leave(&mut self) -> io::Result<()> {
        let open = self.open.pop().ok_or_else(|| invalid("no directory is open"))?;
        let (place, length, index) = directory::write(&mut self.directories, &open.entries)?;
        let head = self.head(open.meta, open.number)?;
        // A root's parent has a number that no inode has.
        let parent = self.open.last().map_or(self.numbers + 1, |parent| parent.number);
        let inode = head.directory(place, length, open.subdirectories + 2, parent, &index)?;
        let at = self.inodes.place()?;
        self.inodes.write(&inode)?;
        match self.open.last_mut() {
            Some(parent) => {
                parent.subdirectories += 1;
                let kind = Kind::Directory;
                parent.entries.push(Entry {
                    name: open.name,
                    inode: at,
                    number: open.number,
                    kind,
                });
            }
            None => self.root = Some(at),
        }
        Ok(())
    }

    /// A file; `links` is the number of its names, this one too.
    pub fn file(
        &mut self,
        name: &[u8],
        meta: Meta,
        contents: Contents,
        links: u32,
    ) -> io::Result<Inode> {
        let number = self.number()?;
        let head = self.head(meta, number)?;
        let extent = self.data.extent(contents).ok_or_else(|| invalid("no such contents"))?;
        let inode = head.file(&extent, self.data.words(&extent), links);
        self.add(name, &inode, number, Kind::File, links)
    }

    /// A symbolic link.
    pub fn symlink(
        &mut self,
        name: &[u8],
        meta: Meta,
        target: &[u8],
        links: u32,
    ) -> io::Result<Inode> {
        let number = self.number()?;
        // Linux shows every link so, and nothing looks at it.
        let meta = Meta { mode: 0o777, ..meta };
        let inode = self.head(meta, number)?.symlink(target, links)?;
        self.add(name, &inode, number, Kind::Symlink, links)
    }

    /// A named pipe, a socket or a device.
    pub fn special(
        &mut self,
        name: &[u8],
        meta: Meta,
        special: Special,
        links: u32,
    ) -> io::Result<Inode> {
        let (kind, device) = match special {
            Special::Fifo => (Kind::Fifo, None),
            Special::Socket => (Kind::Socket, None),
            Special::Character(device) => (Kind::Character, Some(device)),
            Special::Block(device) => (Kind::Block, Some(device)),
        };
        let number = self.number()?;
        let inode = self.head(meta, number)?.special(kind, device, links);
        self.add(name, &inode, number, kind, links)
    }

    /// One more name of an inode.
    pub fn link(&mut self, name: &[u8], inode: Inode) -> io::Result<()> {
        self.check(name)?;
        let shared =
            self.shared.get_mut(&inode).ok_or_else(|| invalid("more names than announced"))?;
        let entry =
            Entry { name: name.into(), inode: shared.inode, number: inode.0, kind: shared.kind };
        shared.missing -= 1;
        if shared.missing == 0 {
            self.shared.remove(&inode);
        }
        self.push(entry)
    }

    /// Writes the tables; gives back `out` and the image's size, after which `out` may have
    /// remains of files that came twice: they are to be cut off.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        let root = self.root.ok_or_else(|| invalid("the tree has no root"))?;
        if !self.open.is_empty() || !self.shared.is_empty() {
            return Err(invalid("fewer names than announced"));
        }
        let level = self.data.options.level.unwrap_or(METADATA_LEVEL);
        let inode_table = self.data.position;
        let inodes = self.inodes.finish()?;
        put(&mut self.data, &inodes.bytes)?;
        let directory_table = self.data.position;
        let directories = self.directories.finish()?;
        put(&mut self.data, &directories.bytes)?;
        let mut fragments = Table::new(level)?;
        for fragment in &self.data.fragments {
            fragments.write(&fragment.start.to_le_bytes())?;
            fragments.write(&fragment.word.to_le_bytes())?;
            fragments.write(&[0; 4])?;
        }
        let fragment_count = self.data.fragments.len() as u32;
        let fragment_table = indexed(&mut self.data, fragments)?;
        let mut ids = Table::new(level)?;
        for id in &self.ids {
            ids.write(&id.to_le_bytes())?;
        }
        let id_table = indexed(&mut self.data, ids)?;
        // Readers want it right behind the table of ids, and nothing behind it.
        let mut xattr_table = u64::MAX;
        let sets = std::mem::replace(&mut self.xattrs, Sets::new(level)?);
        if let Some((bytes, head)) = sets.finish(self.data.position, level)? {
            put(&mut self.data, &bytes)?;
            xattr_table = head;
        }
        let used = self.data.position;
        // Loop devices show whole sectors only, some of them 4 KiB.
        let padding = used.next_multiple_of(4096) - used;
        put(&mut self.data, &vec![0; usize::try_from(padding).unwrap_or(0)])?;

        let block_size = self.data.options.block_size;
        let mut superblock = Vec::with_capacity(96);
        // Magic, inodes, time (none: the same tree gives the same bytes), block, fragments.
        for field in [0x7371_7368, self.numbers, 0, block_size, fragment_count] {
            superblock.extend(u32::to_le_bytes(field));
        }
        // zstd, block log, flags (no extended attributes, if so), ids, version.
        let id_count = self.ids.len() as u16;
        let flags = if xattr_table == u64::MAX { 0x0200 } else { 0 };
        for field in [6, block_size.trailing_zeros() as u16, flags, id_count, 4, 0] {
            superblock.extend(u16::to_le_bytes(field));
        }
        let no_exports = u64::MAX;
        for field in [
            root.packed(),
            used,
            id_table,
            xattr_table,
            inode_table,
            directory_table,
            fragment_table,
            no_exports,
        ] {
            superblock.extend(u64::to_le_bytes(field));
        }
        let size = self.data.position;
        let mut out = self.data.out;
        out.seek(SeekFrom::Start(0))?;
        out.write_all(&superblock)?;
        out.flush()?;
        Ok((out, size))
    }

    fn add(
        &mut self,
        name: &[u8],
        inode: &[u8],
        number: u32,
        kind: Kind,
        links: u32,
    ) -> io::Result<Inode> {
        self.check(name)?;
        let place = self.inodes.place()?;
        self.inodes.write(inode)?;
        let id = Inode(number);
        match links {
            0 => return Err(invalid("a name is one link at least")),
            1 => {}
            _ => {
                self.shared.insert(id, Shared { missing: links - 1, inode: place, kind });
            }
        }
        self.push(Entry { name: name.into(), inode: place, number, kind })?;
        Ok(id)
    }

    fn push(&mut self, entry: Entry) -> io::Result<()> {
        self.open.last_mut().ok_or_else(|| invalid("no directory is open"))?.entries.push(entry);
        Ok(())
    }

    /// A name must be one, and come after the one before it.
    fn check(&self, name: &[u8]) -> io::Result<()> {
        let open = self.open.last().ok_or_else(|| invalid("no directory is open"))?;
        let bad = name.is_empty() || name.len() > NAME_MAX || matches!(name, b"." | b"..");
        if bad || name.contains(&0) || name.contains(&b'/') {
            return Err(invalid("not a file name"));
        }
        if open.entries.last().is_some_and(|last| *last.name >= *name) {
            return Err(invalid("names out of order"));
        }
        Ok(())
    }

    fn number(&mut self) -> io::Result<u32> {
        // One more must be left for the root's parent.
        if self.numbers >= u32::MAX - 2 {
            return Err(invalid("too many inodes"));
        }
        self.numbers += 1;
        Ok(self.numbers)
    }

    fn head(&mut self, meta: Meta, number: u32) -> io::Result<Head> {
        if !self.xattrs.has(meta.xattrs) {
            return Err(invalid("no such extended attributes"));
        }
        let (uid, gid) = (self.id(meta.uid)?, self.id(meta.gid)?);
        Ok(Head { meta, uid, gid, number })
    }

    fn id(&mut self, id: u32) -> io::Result<u16> {
        if let Some(place) = self.id_places.get(&id) {
            return Ok(*place);
        }
        // The count of ids must fit too.
        let place = u16::try_from(self.ids.len()).ok().filter(|&p| p < u16::MAX);
        let place = place.ok_or_else(|| invalid("more than 65,535 different owners and groups"))?;
        self.ids.push(id);
        self.id_places.insert(id, place);
        Ok(place)
    }
}

fn put<W: Read + Write + Seek>(data: &mut Writer<W>, bytes: &[u8]) -> io::Result<()> {
    data.out.write_all(bytes)?;
    data.position += bytes.len() as u64;
    Ok(())
}

/// Writes a table and the list of its blocks; gives the place of the list.
fn indexed<W: Read + Write + Seek>(data: &mut Writer<W>, table: Table) -> io::Result<u64> {
    let table = table.finish()?;
    let start = data.position;
    put(data, &table.bytes)?;
    let list = data.position;
    let places: Vec<u8> = table.starts.iter().flat_map(|at| (start + at).to_le_bytes()).collect();
    put(data, &places)?;
    Ok(list)
}
