package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// subject is a file that is judged. It is read with debug/elf, not with stead's own reader.
type subject struct {
	Path    string // on its host, absolute and without links
	Kind    string // program, library, static, script
	Interp  string // of a program, as it names it; of a script, its whole #! line
	Soname  string
	Class   elf.Class
	Machine elf.Machine
}

// The kinds of subjects.
const (
	program = "program"
	library = "library"
	static  = "static"
	script  = "script"
)

// subjects are the programs and libraries of a root, in the order of their paths: each ELF
// file below /usr that the kernel or a loader takes, and the scripts of the bin folders.
func subjects(root string) (list []subject, err error) {
	err = filepath.WalkDir(filepath.Join(root, "usr"), func(full string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		path := strings.TrimPrefix(full, root)
		if strings.HasPrefix(path, "/usr/lib/debug/") || strings.HasSuffix(path, ".o") || strings.HasSuffix(path, ".ko") {
			return nil
		}
		s, ok, err := classify(full, path)
		if ok {
			list = append(list, s)
		}
		return err
	})
	return list, err
}

func classify(full, path string) (s subject, ok bool, err error) {
	f, err := os.Open(full)
	if err != nil {
		return s, false, err
	}
	defer f.Close()
	head := make([]byte, 256)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		return s, false, err
	}
	head = head[:n]
	s.Path = path
	switch {
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		ok = s.readELF(f)
	case bytes.HasPrefix(head, []byte("#!")) && inBin(path):
		line, _, _ := bytes.Cut(head[2:], []byte{'\n'})
		s.Kind, s.Interp, ok = script, strings.TrimSpace(string(line)), true
		if st, err := f.Stat(); err != nil || st.Mode()&0o111 == 0 {
			ok = false
		}
	}
	return s, ok, nil
}

func inBin(path string) bool {
	dir := filepath.Dir(path)
	return dir == "/usr/bin" || dir == "/usr/sbin"
}

func (s *subject) readELF(f *os.File) bool {
	e, err := elf.NewFile(f)
	if err != nil || e.Type != elf.ET_EXEC && e.Type != elf.ET_DYN {
		return false
	}
	s.Class, s.Machine = e.Class, e.Machine
	dynamic := false
	for _, p := range e.Progs {
		switch p.Type {
		case elf.PT_INTERP:
			interp, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
			if err != nil {
				return false
			}
			s.Interp = strings.TrimRight(string(interp), "\x00")
		case elf.PT_DYNAMIC:
			dynamic = true
		}
	}
	base := filepath.Base(s.Path)
	shared := strings.HasSuffix(base, ".so") || strings.Contains(base, ".so.") || strings.HasSuffix(base, ".node")
	if names, err := e.DynString(elf.DT_SONAME); err == nil && len(names) > 0 {
		s.Soname = names[0]
	}
	pie := false
	if flags, err := e.DynValue(elf.DT_FLAGS_1); err == nil && len(flags) > 0 {
		pie = elf.DynFlag1(flags[0])&elf.DF_1_PIE != 0
	}
	switch {
	case e.Type == elf.ET_DYN && (shared || s.Interp == "" && !pie):
		s.Kind = library
	case s.Interp != "":
		s.Kind = program
	case e.Type == elf.ET_EXEC || dynamic:
		s.Kind = static
	}
	// A loader that is asked for itself answers nothing of use.
	return s.Kind != "" && !strings.HasPrefix(base, "ld-linux") && !strings.HasPrefix(base, "ld-2.")
}
