package content

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

const (
	rpmMagic    = "\xed\xab\xee\xdb" // begins a package
	rpmHeader   = "\x8e\xad\xe8\x01" // begins each of its two headers
	maxTags     = 4096               // of a header; packages have about a hundred
	maxRPMStore = 64 << 20           // bytes of a header; a kernel's sources have 10 MB
	rpmLead     = 96
)

// Tags of a header: see rpmtag.h.
const (
	tagName, tagVersion, tagRelease, tagEpoch, tagArch      = 1000, 1001, 1002, 1003, 1022
	tagRequireFlags, tagRequireName, tagRequireVersion      = 1048, 1049, 1050
	tagProvideFlags, tagProvideName, tagProvideVersion      = 1112, 1047, 1113
	tagConflictFlags, tagConflictName, tagConflictVersion   = 1053, 1054, 1055
	tagPayloadFormat, tagPayloadCompressor                  = 1124, 1125
	tagFileSizes, tagFileModes, tagFileLinks, tagFileInodes = 1028, 1030, 1036, 1096
	tagDirIndexes, tagBaseNames, tagDirNames, tagLongSizes  = 1116, 1117, 1118, 5008
)

// rpm reads a package of RPM's, version 3 and 4: a lead that nobody reads any more, a
// header of signatures, the header, and a cpio archive.
func (a *archive) rpm(ctx context.Context, r io.Reader) error {
	br := bufio.NewReaderSize(r, 64<<10)
	var lead [rpmLead]byte
	if _, err := io.ReadFull(br, lead[:]); err != nil || string(lead[:4]) != rpmMagic {
		return errors.New("it is no .rpm: the magic number is missing")
	}
	signatures, err := readTags(br)
	if err != nil {
		return fmt.Errorf("header of signatures: %w", err)
	}
	if pad := -len(signatures.store) & 7; pad > 0 {
		br.Discard(pad)
	}
	tags, err := readTags(br)
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if a.set.Package = tags.rpmPackage(); a.set.Package.Name == "" {
		return errors.New("header: it has no name")
	}
	if err := a.begin(); err != nil {
		return err
	}
	if format := tags.text(tagPayloadFormat); format != "" && format != "cpio" {
		return fmt.Errorf("its payload is %q, not cpio", format)
	}
	how := "" // what its magic number tells otherwise
	switch c := tags.text(tagPayloadCompressor); c {
	case "lzma", "gzip", "bzip2", "xz", "zstd":
		how = c
	case "":
		head, _ := br.Peek(8)
		how = compression(head, "")
	default:
		return fmt.Errorf("its payload is compressed by %q", c)
	}
	plain, done, err := a.decompress(how, br)
	if err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	defer done()
	if err := a.cpio(ctx, bufio.NewReaderSize(plain, 64<<10), tags); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	return nil
}

// tags are those of a header, by number.
type tags struct {
	index map[uint32]tag
	store []byte
}

type tag struct{ kind, offset, count uint32 }

func readTags(r io.Reader) (*tags, error) {
	var intro [16]byte
	if _, err := io.ReadFull(r, intro[:]); err != nil || string(intro[:4]) != rpmHeader {
		return nil, errors.New("its magic number is missing")
	}
	n, size := binary.BigEndian.Uint32(intro[8:]), binary.BigEndian.Uint32(intro[12:])
	if n > maxTags || size > maxRPMStore {
		return nil, fmt.Errorf("%d tags of %d bytes are too many", n, size)
	}
	// Both are read as they come: what they claim may not be there.
	data, err := io.ReadAll(io.LimitReader(r, int64(n)*16+int64(size)))
	if err != nil {
		return nil, err
	}
	if len(data) < int(n)*16+int(size) {
		return nil, io.ErrUnexpectedEOF
	}
	t := &tags{index: map[uint32]tag{}, store: data[n*16:]}
	for i := range int(n) {
		e := data[i*16:]
		t.index[binary.BigEndian.Uint32(e)] = tag{
			binary.BigEndian.Uint32(e[4:]), binary.BigEndian.Uint32(e[8:]), binary.BigEndian.Uint32(e[12:])}
	}
	return t, nil
}

// texts are the strings of a tag, without those that aren't there.
func (t *tags) texts(number uint32) (list []string) {
	e, ok := t.index[number]
	// string, string array, string by language
	if !ok || e.kind != 6 && e.kind != 8 && e.kind != 9 || uint64(e.offset) > uint64(len(t.store)) {
		return nil
	}
	rest := t.store[e.offset:]
	for range e.count {
		text, after, ok := bytes.Cut(rest, []byte{0})
		if !ok {
			break
		}
		list, rest = append(list, string(text)), after
	}
	return list
}

func (t *tags) text(number uint32) string {
	if list := t.texts(number); len(list) > 0 {
		return list[0]
	}
	return ""
}

// numbers are those of a tag.
func (t *tags) numbers(number uint32) (list []uint64) {
	e, ok := t.index[number]
	width := map[uint32]int{3: 2, 4: 4, 5: 8}[e.kind]
	if !ok || width == 0 || uint64(e.offset) > uint64(len(t.store)) {
		return nil
	}
	rest := t.store[e.offset:]
	for range min(int(e.count), len(rest)/width) {
		switch width {
		case 2:
			list = append(list, uint64(binary.BigEndian.Uint16(rest)))
		case 4:
			list = append(list, uint64(binary.BigEndian.Uint32(rest)))
		case 8:
			list = append(list, binary.BigEndian.Uint64(rest))
		}
		rest = rest[width:]
	}
	return list
}

func (t *tags) rpmPackage() *Package {
	p := &Package{Name: t.text(tagName), Version: t.text(tagVersion), Architecture: t.text(tagArch)}
	if release := t.text(tagRelease); release != "" {
		p.Version += "-" + release
	}
	if epoch := t.numbers(tagEpoch); len(epoch) > 0 && epoch[0] != 0 {
		p.Version = fmt.Sprintf("%d:%s", epoch[0], p.Version)
	}
	p.Depends = t.relations(tagRequireName, tagRequireFlags, tagRequireVersion)
	p.Excludes = t.relations(tagConflictName, tagConflictFlags, tagConflictVersion)
	p.Provides = t.relations(tagProvideName, tagProvideFlags, tagProvideVersion)
	return p
}

// relations are a package's to others, "bash >= 4.2", without those to features of rpm's
// own.
func (t *tags) relations(name, flags, version uint32) (list []string) {
	all, versions := t.numbers(flags), t.texts(version)
	for i, text := range t.texts(name) {
		if text == "" || strings.HasPrefix(text, "rpmlib(") {
			continue
		}
		if i < len(all) && i < len(versions) && versions[i] != "" && all[i]&14 != 0 {
			text += " "
			for _, sign := range []struct {
				flag uint64
				text string
			}{{2, "<"}, {4, ">"}, {8, "="}} {
				if all[i]&sign.flag != 0 {
					text += sign.text
				}
			}
			text += " " + versions[i]
		}
		list = append(list, text)
	}
	return list
}

// files are those that the header lists: a cpio archive with files of more than 4 GB only
// has their numbers. Of several names of one file the last has its content.
func (t *tags) files() []cpioEntry {
	bases, dirs, indexes := t.texts(tagBaseNames), t.texts(tagDirNames), t.numbers(tagDirIndexes)
	modes, inodes, sizes := t.numbers(tagFileModes), t.numbers(tagFileInodes), t.numbers(tagLongSizes)
	if sizes == nil {
		sizes = t.numbers(tagFileSizes)
	}
	if len(bases) != len(indexes) || len(bases) != len(modes) || len(bases) != len(inodes) || len(bases) != len(sizes) {
		return nil
	}
	last, links := map[uint64]int{}, map[uint64]uint64{}
	for i, inode := range inodes {
		last[inode] = i
		links[inode]++
	}
	list := make([]cpioEntry, len(bases))
	for i, inode := range inodes {
		if indexes[i] >= uint64(len(dirs)) {
			return nil
		}
		e := cpioEntry{name: path.Join(dirs[indexes[i]], bases[i]), inode: [3]uint64{inode}, mode: uint32(modes[i]), links: links[inode]}
		switch kind := e.mode & 0o170000; {
		case kind == 0o120000, kind == 0o100000 && last[inode] == i:
			e.size = int64(sizes[i])
		}
		list[i] = e
	}
	return list
}
