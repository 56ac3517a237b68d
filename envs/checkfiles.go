package envs

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/content"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/snapshot"
)

// How much is kept of files that aren't ELF: of a script that its first line is in, of
// those that are read for what they say all that is there, of a class file its version.
const (
	scriptHead = 512
	classHead  = 8
)

// maxMembers bounds the libraries that are judged inside a jar.
const maxMembers = 1000

// ArtifactOptions are how what is to be judged is read.
type ArtifactOptions struct {
	// At is the folder on the target that files lie in which have no place of their own;
	// "" for one that no target has.
	At string
	// Root is the folder of the target's root, "/" for this machine's: what lies below it
	// has its place there. "" where the target isn't here.
	Root     string
	Spool    string // a folder for temporary files; "" for the system's
	Progress snapshot.Progress
}

// ReadArtifacts reads files, folders and archives into sets of what is shipped together:
// all plain files as they lie to each other, each folder or archive, and packages that can
// be installed together. Of each only what can have a verdict is kept.
func ReadArtifacts(ctx context.Context, names []string, o ArtifactOptions) ([]*artifact.Set, error) {
	cpus := goruntime.GOMAXPROCS(0)
	workers := max(1, cpus/len(names))
	var archives sync.Mutex
	read := make([]*artifactReader, len(names))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(cpus)
	for i, name := range names {
		r := &artifactReader{sets: map[*content.Set]*readSet{}}
		read[i] = r
		options := content.Options{At: o.At, Spool: o.Spool, Workers: workers, Archives: &archives}
		if o.Root != "" {
			var err error
			if r.here, err = placeBelow(o.Root, name); err != nil {
				return nil, err
			}
			if fi, err := os.Stat(name); err == nil && fi.IsDir() && r.here != "" {
				options.At = r.here
			}
		}
		g.Go(func() error {
			o.Progress.Report(snapshot.Event{Stage: "reading", Item: name})
			if err := content.Walk(gctx, name, options, r.visit); err != nil {
				return fmt.Errorf("reading %s: %w", name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return shippedTogether(names, read, cmp.Or(o.At, content.DefaultAt))
}

// placeBelow is where a file lies below a root, without links: a program's own folder is
// that. It is "" for one that lies elsewhere.
func placeBelow(root, name string) (string, error) {
	for _, p := range []*string{&root, &name} {
		abs, err := filepath.Abs(*p)
		if err == nil {
			abs, err = filepath.EvalSymlinks(abs)
		}
		if err != nil {
			return "", err
		}
		*p = abs
	}
	rel, err := filepath.Rel(root, name)
	if err != nil || !filepath.IsLocal(rel) {
		return "", nil
	}
	return path.Join("/", rel), nil
}

// artifactReader reads one argument.
type artifactReader struct {
	here string // the argument's own place in the target's root; "" for none

	mu    sync.Mutex
	order []*readSet
	sets  map[*content.Set]*readSet
}

// readSet is what is kept of a set.
type readSet struct {
	*content.Set
	files  []artifact.File
	places map[string]int // in files

	members []artifact.File // of a jar
	majors  map[uint16]bool // of its classes
}

func (r *artifactReader) visit(set *content.Set, f *content.File) error {
	if f == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		s := &readSet{Set: set, places: map[string]int{}, majors: map[uint16]bool{}}
		r.order, r.sets[set] = append(r.order, s), s
		return nil
	}
	if !matters(set, f) {
		return nil
	}
	kept := artifact.File{Name: f.Name, Path: f.Path, Executable: f.Mode&0o111 != 0,
		Setuid: f.Mode&(fs.ModeSetuid|fs.ModeSetgid) != 0, Err: f.Err}
	switch {
	case f.Type == content.Link:
		kept.Link = f.Target
	case f.Sealed:
		kept.Err = fmt.Errorf("it is a %s file in too many others", f.Archive)
	case f.Content != nil:
		kept.Object, kept.Err = object.Read(f.Content, f.Size)
		if _, ok := errors.AsType[*object.Error](kept.Err); kept.Err != nil && !ok {
			return fmt.Errorf("%s: %w", f.Name, kept.Err)
		}
	default:
		kept.Head = headOf(set, f)
	}
	if set.Format == content.Wheel && path.Dir(f.Path) == path.Join(set.At, "bin") {
		kept.Executable, kept.Head = true, wheelScript(kept.Head)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sets[set].add(kept, f)
	return nil
}

// matters tells whether a file can have a verdict, or matters to that of others.
func matters(set *content.Set, f *content.File) bool {
	base := path.Base(f.Path)
	switch {
	case f.Type == content.Link, f.Type == content.HardLink, set.Format == content.Plain:
		return true
	case f.Err != nil:
		// A folder that can't be listed hides what is in it.
		return f.Type == content.Dir || f.Mode&0o111 != 0 || strings.Contains(base, ".so")
	case f.Type != content.Regular, relocatable(f) && !strings.Contains(base, ".so"), strings.HasSuffix(base, ".debug"):
		return false
	case set.Format == content.Jar:
		return f.ELF() || isClass(f) || f.Sealed
	case f.Archive != "":
		return f.Archive == content.Jar || f.Sealed
	}
	return f.ELF() || f.Mode&0o111 != 0 || strings.Contains(base, ".so") || isClass(f) ||
		isConfiguration(f.Path) ||
		set.Format == content.Wheel && path.Dir(f.Path) == path.Join(set.At, "bin")
}

// relocatable tells what a compiler gives to a linker, and modules of the kernel: as with
// what is for debuggers, nobody starts or loads those.
func relocatable(f *content.File) bool {
	const typeAt = 16 // e_type, in one byte order or the other
	return f.ELF() && len(f.Head) >= typeAt+2 && f.Head[typeAt]|f.Head[typeAt+1] == byte(elf.ET_REL)
}

// isConfiguration tells files that say where others are looked for.
func isConfiguration(name string) bool {
	base := path.Base(name)
	return base == "pyvenv.cfg" || base == "qt.conf" || path.Dir(name) == "/etc/ld.so.conf.d"
}

func isClass(f *content.File) bool {
	return bytes.HasPrefix(f.Head, []byte("\xca\xfe\xba\xbe")) && len(f.Head) >= classHead && strings.HasSuffix(f.Path, ".class")
}

// headOf is what is kept of a file's beginning.
func headOf(set *content.Set, f *content.File) []byte {
	size := scriptHead
	switch {
	case isClass(f):
		size = classHead
	case set.Format == content.Plain, isConfiguration(f.Path):
		size = artifact.HeadSize
	}
	return bytes.Clone(f.Head[:min(size, len(f.Head))])
}

// wheelScript is a wheel's script as it is installed: pip writes the interpreter into its
// first line that it runs in itself.
func wheelScript(head []byte) []byte {
	for _, placeholder := range []string{"#!pythonw", "#!python"} {
		if rest, ok := bytes.CutPrefix(head, []byte(placeholder)); ok {
			return append([]byte("#!/usr/bin/env python3"), rest...)
		}
	}
	return head
}

// add keeps a file: of several at one place the last, as unpacking does.
func (s *readSet) add(f artifact.File, from *content.File) {
	if s.Format == content.Jar {
		s.addMember(f, from)
		return
	}
	if from.Type == content.HardLink {
		i, ok := s.places[from.Target]
		if !ok {
			return
		}
		name, place := f.Name, f.Path
		f = s.files[i]
		f.Name, f.Path = name, place
	}
	if i, ok := s.places[f.Path]; ok {
		s.files[i] = f
		return
	}
	s.places[f.Path] = len(s.files)
	s.files = append(s.files, f)
}

// addMember keeps what tells for which machines a jar is: one class of each version, and
// its libraries. Classes for later versions of Java only aren't asked for by others.
func (s *readSet) addMember(f artifact.File, from *content.File) {
	name := strings.TrimPrefix(f.Path, s.At+"/")
	if f.Object == nil && f.Err == nil {
		if !isClass(from) || strings.HasPrefix(name, "META-INF/versions/") || path.Base(name) == "module-info.class" {
			return
		}
		major := binary.BigEndian.Uint16(f.Head[6:])
		if s.majors[major] {
			return
		}
		s.majors[major] = true
	}
	if len(s.members) < maxMembers+len(s.majors) {
		s.members = append(s.members, f)
	}
}
