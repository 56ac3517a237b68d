package envs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
	"golang.org/x/sys/unix"
)

// maxConfig bounds a file that people write, in bytes.
const maxConfig = 1 << 20

// readBounded reads a regular file of at most limit bytes. The error wraps
// fs.ErrNotExist where there is none.
func readBounded(path string, limit int64) ([]byte, error) {
	// Without O_NONBLOCK a fifo in a cloned repository would wait for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, cause(err))
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("reading %s: it is not a regular file", path))
	}
	var data bytes.Buffer
	data.Grow(int(min(fi.Size(), limit)) + bytes.MinRead) // a lock has some 100 KB
	if _, err := data.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, cause(err))
	}
	if int64(data.Len()) > limit {
		return nil, fmt.Errorf("reading %s: it is larger than %d bytes", path, limit)
	}
	return data.Bytes(), nil
}

// cause is an error without the path that os puts into it.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// SyntaxError is a mistake in a file that people write.
type SyntaxError struct {
	Path string
	Line int // 1 is the first; 0 where it isn't known
	Key  string
	Text string // what is wrong
}

func (e *SyntaxError) Error() string {
	at := e.Path
	if e.Line > 0 {
		at = fmt.Sprintf("%s:%d", e.Path, e.Line)
	}
	if e.Key != "" {
		return fmt.Sprintf("reading %s: %s %q", at, e.Text, e.Key)
	}
	return fmt.Sprintf("reading %s: %s", at, e.Text)
}

// Hint says where environment variables are set, which once were all of [env].
func (e *SyntaxError) Hint() string {
	if in := strings.Split(e.Key, "."); len(in) > 1 && in[len(in)-2] == "env" {
		return "environment variables are set in [" + strings.Join(in[:len(in)-1], ".") + ".variables]"
	}
	return ""
}

// decodeFile reads a TOML file into v. A key that v has no place for is a
// *SyntaxError: a misspelt one must not pass for an absent one.
func decodeFile(path string, v any) error {
	data, err := readBounded(path, maxConfig)
	if err != nil {
		return err
	}
	return decodeText(path, data, v)
}

func decodeText(path string, data []byte, v any) error {
	md, err := toml.Decode(string(data), v)
	var pe toml.ParseError
	if errors.As(err, &pe) {
		return &SyntaxError{Path: path, Line: pe.Position.Line, Text: pe.Message}
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if unknown := md.Undecoded(); len(unknown) > 0 {
		key := unknown[0]
		return &SyntaxError{Path: path, Line: keyLine(string(data), key), Key: key.String(), Text: "unknown key"}
	}
	return nil
}

var keyStart = regexp.MustCompile(`^\s*(\[{1,2})?\s*([\w."' -]+?)\s*(\]{1,2}|=)`)

// keyLine finds the line that sets a key, for an error message: 0 where it is
// written in a way that this doesn't follow, such as in an inline table.
func keyLine(text string, key toml.Key) int {
	table := ""
	for i, line := range strings.Split(text, "\n") {
		m := keyStart.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		name := strings.NewReplacer(`"`, "", "'", "", " ", "").Replace(m[2])
		if m[1] != "" {
			table = name
		} else if table != "" {
			name = table + "." + name
		}
		if name == strings.Join(key, ".") || strings.HasPrefix(name, strings.Join(key, ".")+".") {
			return i + 1
		}
	}
	return 0
}

// writeFile writes a file beside, syncs it and renames it into place, over one
// that is there.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	return place(path, data, mode, os.Rename)
}

// writeNew is writeFile for a file that must not be there yet: the error is
// fs.ErrExist then.
func writeNew(path string, data []byte, mode fs.FileMode) error {
	return place(path, data, mode, renameNew)
}

// writeOver is writeFile for a file that people have their own way with: a link is
// followed, and mode and owner stay. mode is that of one that isn't there yet.
func writeOver(path string, data []byte, mode fs.FileMode) error {
	to, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("writing %s: it is a link to nothing", path)
		}
		return writeFile(path, data, mode)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, cause(err))
	}
	var st unix.Stat_t
	if err := unix.Stat(to, &st); err != nil {
		return fmt.Errorf("writing %s: %w", to, err)
	}
	return place(to, data, fs.FileMode(st.Mode&0o777), func(from, to string) error {
		if int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid() {
			err := os.Chown(from, int(st.Uid), int(st.Gid))
			if errors.Is(err, fs.ErrPermission) { // the group may be one of ours
				err = os.Chown(from, -1, int(st.Gid))
			}
			if err != nil && !errors.Is(err, fs.ErrPermission) {
				return cause(err)
			}
		}
		return os.Rename(from, to)
	})
}

// unfinished begins the names of files that aren't whole yet.
const unfinished = ".stead-"

func place(path string, data []byte, mode fs.FileMode, rename func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), unfinished)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, cause(err))
	}
	defer os.Remove(f.Name()) //nolint:errcheck // gone where the rename went well
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// renameNew renames without replacing. A file system that can't (EINVAL, see
// renameat2(2)) can make a hard link instead.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = os.Link(from, to)
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
