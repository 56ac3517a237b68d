package content

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"path/filepath"
	"strings"
)

// suffixes are the names that archives have.
var suffixes = []struct {
	format Format
	names  []string
}{
	{Deb, []string{".deb", ".udeb", ".ddeb"}},
	{RPM, []string{".rpm"}},
	{Wheel, []string{".whl"}},
	{Jar, []string{".jar", ".war", ".ear"}},
	{Zip, []string{".zip", ".egg"}},
	{Tar, []string{".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.bz2", ".tbz2", ".tbz", ".tar.lzma", ".tlz"}},
}

func bySuffix(name string) Format {
	name = strings.ToLower(path.Base(name))
	for _, s := range suffixes {
		for _, suffix := range s.names {
			if len(name) > len(suffix) && strings.HasSuffix(name, suffix) {
				return s.format
			}
		}
	}
	return ""
}

// formatOf is the format of an argument: its name counts, and then its beginning. What
// begins as ELF or as a script does is started, whatever its name.
func formatOf(name string, head []byte) Format {
	switch {
	case bytes.HasPrefix(head, []byte("\x7fELF")), bytes.HasPrefix(head, []byte("#!")):
		return ""
	case bySuffix(name) != "":
		return bySuffix(name)
	case bytes.HasPrefix(head, []byte(arMagic+"debian-binary")):
		return Deb
	case bytes.HasPrefix(head, []byte(rpmMagic)):
		return RPM
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte("PK\x05\x06")):
		return Zip
	case len(head) > 262 && string(head[257:262]) == "ustar":
		return Tar
	}
	return ""
}

// nested is the format of a file in a set that is opened too. What a package holds is
// data, but for programs of Java, which run from where they lie.
func nested(within Format, name string, head []byte) Format {
	if len(head) == 0 || bytes.HasPrefix(head, []byte("#!")) {
		return ""
	}
	format := bySuffix(name)
	if format == Jar {
		return Jar
	}
	switch within {
	case Folder, Tar, Zip:
		return format
	}
	return ""
}

// archive reads a set of files; what is wrong with it is the set's own.
func (w *walk) archive(ctx context.Context, set *Set, depth int, r io.Reader) error {
	if depth == 1 {
		w.Archives.Lock()
		defer w.Archives.Unlock()
	}
	a := &archive{walk: w, set: set, depth: depth}
	if set.Format == Deb || set.Format == RPM {
		set.At = "/"
	} else if set.At == "" {
		set.At = w.at
		if set.Format == Jar { // never unpacked
			set.At = path.Join(w.at, filepath.Base(set.Name)) + "!"
		}
	}
	var err error
	switch set.Format {
	case Deb:
		err = a.deb(ctx, r)
	case RPM:
		err = a.rpm(ctx, r)
	case Tar:
		err = a.tarFile(ctx, r)
	default:
		err = a.zipFile(ctx, r)
	}
	if _, ok := errors.AsType[stopped](err); ok {
		return err
	}
	if ctx.Err() != nil {
		return stopped{ctx.Err()}
	}
	set.Broken = err
	return a.begin()
}

// archive is one that is being read.
type archive struct {
	*walk
	set   *Set
	depth int
	begun bool
}

// begin tells of the set, once what it says of itself is known.
func (a *archive) begin() error {
	if a.begun {
		return nil
	}
	a.begun = true
	return a.emit(a.set, nil)
}

// entry hands over an entry by its name in the archive.
func (a *archive) entry(ctx context.Context, name string, f *File, r io.Reader) error {
	p, err := a.set.place(name)
	if err != nil || p == "" {
		return err
	}
	f.Path, f.Name = p, a.set.label(p)
	if err := a.begin(); err != nil {
		return err
	}
	return a.file(ctx, a.set, a.depth, f, r)
}

// rootFolders are what a root's top has; those that are told apart make an archive one
// that is unpacked at the root. A bin and a lib alone are in many that are not.
var rootFolders = map[string]bool{"usr": true, "etc": true, "opt": true, "var": true, "srv": true,
	"bin": false, "sbin": false, "lib": false, "lib32": false, "lib64": false, "libx32": false, "boot": false,
	"home": false, "root": false, "run": false, "media": false, "mnt": false, "tmp": false, "dev": false, "proc": false, "sys": false}

// rootlike tells whether an archive of such names is unpacked at the root.
type rootlike struct{ root, other bool }

func (l *rootlike) add(name string) {
	top, _, _ := strings.Cut(strings.TrimPrefix(path.Clean("/"+name), "/"), "/")
	if top == "" {
		return
	}
	root, known := rootFolders[top]
	l.root, l.other = l.root || root, l.other || !known
}
