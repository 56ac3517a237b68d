package content

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// maxDepth is how deep archives are opened: a jar in a package in a tar.
const maxDepth = 3

// Walk reads the artifact at a path. It gives visit each set, with a nil file, and then
// the set's files. What is wrong with an archive is in its set's Broken once Walk returns;
// an error is that of visit, of the context, or of reading what the path names.
func Walk(ctx context.Context, name string, o Options, visit func(*Set, *File) error) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	w := newWalk(o, visit)
	if info.IsDir() {
		return w.plainError(w.folder(ctx, name))
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is neither a file nor a folder")
	}
	// Not to hang where a pipe took the file's place.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return w.plainError(w.argument(ctx, name, f))
}

// Read is Walk for a package that comes as a stream.
func Read(ctx context.Context, name string, format Format, r io.Reader, o Options, visit func(*Set, *File) error) error {
	w := newWalk(o, visit)
	return w.plainError(w.archive(ctx, &Set{Name: name, Format: format}, 1, r))
}

type walk struct {
	Options
	at    string // Options.At may be ""
	visit func(*Set, *File) error

	entries, bytes atomic.Int64
}

// What every walk has for the beginnings of files, and for members of archives.
var (
	heads = sync.Pool{New: func() any { return new([HeadBytes]byte) }}
	holds = sync.Pool{New: func() any { return new(bytes.Buffer) }}
)

func newWalk(o Options, visit func(*Set, *File) error) *walk {
	w := &walk{Options: o, at: o.At, visit: visit}
	if w.at == "" {
		w.at = DefaultAt
	}
	if w.MaxEntries == 0 {
		w.MaxEntries = 400_000
	}
	if w.MaxBytes == 0 {
		w.MaxBytes = 8 << 30
	}
	if w.MaxMember == 0 {
		w.MaxMember = 2 << 30
	}
	if w.Archives == nil {
		w.Archives = new(sync.Mutex)
	}
	return w
}

// stopped is an error that ends the walk, where others only end one archive.
type stopped struct{ error }

func (s stopped) Unwrap() error { return s.error }

func (w *walk) plainError(err error) error {
	if s, ok := errors.AsType[stopped](err); ok {
		return s.error
	}
	return err
}

func (w *walk) emit(set *Set, f *File) error {
	if err := w.visit(set, f); err != nil {
		return stopped{err}
	}
	return nil
}

// argument reads a file: an archive, if its name or its beginning says so.
func (w *walk) argument(ctx context.Context, name string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	pages := newPaged(f)
	defer pagers.Put(pages)
	buf := heads.Get().(*[HeadBytes]byte)
	defer heads.Put(buf)
	n, err := pages.ReadAt(buf[:], 0)
	if err != nil && err != io.EOF {
		return err
	}
	if format := formatOf(name, buf[:n]); format != "" {
		return w.archive(ctx, &Set{Name: name, Format: format}, 1, io.NewSectionReader(f, 0, info.Size()))
	}
	set := &Set{Name: name, Format: Plain, At: w.at}
	if err := w.emit(set, nil); err != nil {
		return err
	}
	file := &File{Path: path.Join(w.at, filepath.Base(name)), Name: name, Type: Regular, Mode: modeOf(info), Size: info.Size()}
	return w.file(ctx, set, maxDepth, file, io.NewSectionReader(pages, 0, file.Size))
}

// folder reads a folder without following links, several files at once.
func (w *walk) folder(ctx context.Context, name string) error {
	root, err := os.OpenRoot(name)
	if err != nil {
		return err
	}
	defer root.Close()
	set := &Set{Name: name, Format: Folder, At: w.at}
	if err := w.emit(set, nil); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(w.Workers, 1))
	err = fs.WalkDir(root.FS(), ".", func(rel string, d fs.DirEntry, err error) error {
		if cerr := ctx.Err(); cerr != nil {
			return cerr
		}
		if rel == "." {
			return err
		}
		f := &File{Path: path.Join(set.At, rel), Name: filepath.Join(name, rel), Type: Dir, Err: unread(err)}
		if err != nil { // a folder that can't be listed, after it was told of
			return w.emit(set, f)
		}
		group.Go(func() error { return w.folderEntry(ctx, set, root, rel, f) })
		return nil
	})
	// What went wrong in a goroutine ended the listing: that is the error to tell.
	return cmp.Or(group.Wait(), err)
}

// unread is an error that only concerns one file.
func unread(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (w *walk) folderEntry(ctx context.Context, set *Set, root *os.Root, rel string, f *File) error {
	info, err := root.Lstat(rel)
	if err != nil {
		return err
	}
	f.Mode, f.Type = modeOf(info), typeOf(info.Mode())
	if f.Type == Link {
		f.Target, err = root.Readlink(rel)
	}
	if err != nil {
		return err
	}
	if f.Type != Regular {
		return w.file(ctx, set, 0, f, nil)
	}
	f.Size = info.Size()
	o, err := root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		if f.Err = unread(err); f.Err == nil {
			return err
		}
		return w.file(ctx, set, 0, f, nil)
	}
	defer o.Close()
	pages := newPaged(o)
	defer pagers.Put(pages)
	return w.file(ctx, set, 0, f, io.NewSectionReader(pages, 0, f.Size))
}

// file hands one entry over, and goes on with what is in it. Its reader may be nil where
// there is nothing to read.
func (w *walk) file(ctx context.Context, set *Set, depth int, f *File, r io.Reader) error {
	if err := ctx.Err(); err != nil {
		return stopped{err}
	}
	if w.entries.Add(1) > w.MaxEntries {
		return fmt.Errorf("it has more than %d entries", w.MaxEntries)
	}
	if f.Type != Regular || r == nil {
		return w.emit(set, f)
	}
	buf := heads.Get().(*[HeadBytes]byte)
	defer heads.Put(buf)
	n, err := readHead(r, buf[:])
	if err != nil {
		return fmt.Errorf("%s: %w", strings.TrimPrefix(f.Name, set.Name+": "), err)
	}
	f.Head = buf[:n]
	whole := rest(f.Head, r)
	if f.ELF() {
		content, done, err := w.hold(whole)
		if err != nil {
			return fmt.Errorf("%s: %w", strings.TrimPrefix(f.Name, set.Name+": "), err)
		}
		defer done()
		f.Content = content
		return w.emit(set, f)
	}
	f.Archive = nested(set.Format, f.Name, f.Head)
	f.Sealed = f.Archive != "" && depth >= maxDepth
	if err := w.emit(set, f); err != nil || f.Archive == "" || f.Sealed {
		return err
	}
	return w.archive(ctx, &Set{Name: f.Name, Format: f.Archive, At: f.Path + "!", Within: set}, depth+1, whole)
}

// readHead fills what there is; only a clean end makes it short.
func readHead(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// rest is a reader of the whole, of which the head has been read.
func rest(head []byte, r io.Reader) io.Reader {
	if all, ok := r.(*io.SectionReader); ok {
		return io.NewSectionReader(all, 0, all.Size())
	}
	return io.MultiReader(bytes.NewReader(head), r)
}

// place is where a name of an archive lies, "" for the archive's own top.
func (s *Set) place(name string) (string, error) {
	if len(name) > 4096 || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%.60q is no name for a file", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("%.200q leads out of it", name)
		}
	}
	if name = path.Clean("/" + name); name == "/" {
		return "", nil
	}
	return path.Join(s.At, name), nil
}

// label names a file of an archive for people.
func (s *Set) label(p string) string {
	if s.Format != Deb && s.Format != RPM {
		p = strings.TrimPrefix(strings.TrimPrefix(p, s.At), "/")
	}
	return s.Name + ": " + p
}

func modeOf(info fs.FileInfo) fs.FileMode {
	return info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
}

func typeOf(mode fs.FileMode) Type {
	switch mode.Type() {
	case 0:
		return Regular
	case fs.ModeDir:
		return Dir
	case fs.ModeSymlink:
		return Link
	}
	return Other
}
