package content

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// cpioEntry is what stands before a file in a cpio archive of the new ASCII format.
type cpioEntry struct {
	name  string
	inode [3]uint64 // with the device's numbers
	mode  uint32
	links uint64
	size  int64
}

// cpio reads the archive of an .rpm. Of several names of one file only the last comes
// with the content; the others are told of after it.
func (a *archive) cpio(ctx context.Context, br *bufio.Reader, t *tags) error {
	var listed []cpioEntry
	waiting := map[[3]uint64][]cpioEntry{}
	count := int64(0)
	for {
		e, index, err := cpioNext(br)
		if err != nil {
			return err
		}
		if index >= 0 {
			if listed == nil {
				listed = t.files()
			}
			if index >= len(listed) {
				return fmt.Errorf("file %d isn't in the header", index)
			}
			e = listed[index]
		}
		if e.name == "TRAILER!!!" {
			break
		}
		if count++; count > a.MaxEntries { // those that wait are kept in memory
			return fmt.Errorf("it has more than %d entries", a.MaxEntries)
		}
		if e.size < 0 {
			return errors.New("a size is negative")
		}
		body := &io.LimitedReader{R: br, N: e.size}
		if e.links > 1 && e.mode&0o170000 == 0o100000 && e.size == 0 {
			waiting[e.inode] = append(waiting[e.inode], e)
			continue
		}
		if err := a.cpioEntry(ctx, e, body); err != nil {
			return err
		}
		if err := a.cpioLinks(ctx, e, waiting[e.inode]); err != nil {
			return err
		}
		delete(waiting, e.inode)
		if _, err := io.Copy(io.Discard, body); err != nil {
			return err
		}
		if body.N > 0 {
			return io.ErrUnexpectedEOF
		}
		if _, err := br.Discard(int(-e.size & 3)); err != nil {
			return err
		}
	}
	for _, empty := range waiting {
		for _, e := range empty {
			if err := a.cpioEntry(ctx, e, strings.NewReader("")); err != nil {
				return err
			}
		}
	}
	_, err := io.Copy(io.Discard, br) // the compressor's checksum
	return err
}

// cpioNext reads what stands before a file. Where only its number in the header does,
// that is the index, else -1.
func cpioNext(br *bufio.Reader) (e cpioEntry, index int, err error) {
	var magic [6]byte
	if _, err := io.ReadFull(br, magic[:]); err != nil {
		return e, -1, noEnd(err)
	}
	var field [13]uint64
	fields := field[:]
	switch string(magic[:]) {
	case "070701", "070702":
	case "07070X":
		fields = field[:1]
	default:
		return e, -1, errors.New("it is no cpio archive of the new ASCII format")
	}
	for i := range fields {
		var hex [8]byte
		if _, err := io.ReadFull(br, hex[:]); err != nil {
			return e, -1, noEnd(err)
		}
		if fields[i], err = strconv.ParseUint(string(hex[:]), 16, 32); err != nil {
			return e, -1, fmt.Errorf("%q is no number", hex)
		}
	}
	if len(fields) == 1 {
		_, err := br.Discard(2) // to a multiple of four
		return e, int(field[0]), noEnd(err)
	}
	e = cpioEntry{inode: [3]uint64{field[0], field[7], field[8]}, mode: uint32(field[1]), links: field[4], size: int64(field[6])}
	if field[11] == 0 || field[11] > 4097 {
		return e, -1, fmt.Errorf("a name of %d bytes", field[11])
	}
	name := make([]byte, field[11])
	if _, err := io.ReadFull(br, name); err != nil {
		return e, -1, noEnd(err)
	}
	e.name = strings.TrimSuffix(string(name), "\x00")
	_, err = br.Discard(int(-(110 + field[11]) & 3))
	return e, -1, noEnd(err)
}

// noEnd is for places where an archive can't end.
func noEnd(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (a *archive) cpioEntry(ctx context.Context, e cpioEntry, body io.Reader) error {
	f := &File{Type: Other, Mode: fs.FileMode(e.mode & 0o777), Size: e.size}
	for bit, mode := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if e.mode&bit != 0 {
			f.Mode |= mode
		}
	}
	switch e.mode & 0o170000 {
	case 0o100000:
		f.Type = Regular
	case 0o040000:
		f.Type, f.Size = Dir, 0
	case 0o120000:
		target, err := io.ReadAll(io.LimitReader(body, 4096))
		if err != nil {
			return err
		}
		f.Type, f.Target, f.Size = Link, string(target), 0
	}
	return a.entry(ctx, e.name, f, body)
}

// cpioLinks tells of the other names of a file.
func (a *archive) cpioLinks(ctx context.Context, e cpioEntry, others []cpioEntry) error {
	target, err := a.set.place(e.name)
	if err != nil {
		return err
	}
	for _, other := range others {
		f := &File{Type: HardLink, Target: target, Mode: fs.FileMode(other.mode & 0o777)}
		if err := a.entry(ctx, other.name, f, nil); err != nil {
			return err
		}
	}
	return nil
}
