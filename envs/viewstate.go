package envs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// What a sync saw of a project is a file with a line for each path, folder by folder,
// each sorted by name, and a line "." where a folder ends. It is read while the next
// sync walks the project in the same order, so that no sync has all of it in memory.

// seen is one path.
type seen struct {
	kind   byte // f, d, l
	name   string
	size   int64 // the others of files only
	mtime  int64 // nanoseconds since 1970, as all times here
	ctime  int64
	copied int64 // ctime of the copy
}

// seenEnd ends a folder.
var seenEnd = seen{kind: '.'}

// append adds the path's line.
func (s seen) append(b []byte) []byte {
	b = append(b, s.kind)
	if s.kind == 'f' {
		for _, n := range [...]int64{s.size, s.mtime, s.ctime, s.copied} {
			b = strconv.AppendInt(append(b, ' '), n, 10)
		}
	}
	if s.kind != '.' {
		b = strconv.AppendQuote(append(b, ' '), s.name)
	}
	return append(b, '\n')
}

// stateError says that the file of a state can't be read; the view begins anew then.
type stateError struct{ text string }

func (e *stateError) Error() string { return "reading what was synced: " + e.text }

func parseSeen(line string) (s seen, err error) {
	if line == "." {
		return seenEnd, nil
	}
	kind, rest, ok := strings.Cut(line, " ")
	if ok = ok && len(kind) == 1 && strings.Contains("fdl", kind); ok {
		s.kind = kind[0]
	}
	if s.kind == 'f' {
		for _, n := range [...]*int64{&s.size, &s.mtime, &s.ctime, &s.copied} {
			word, after, more := strings.Cut(rest, " ")
			*n, err = strconv.ParseInt(word, 10, 64)
			rest, ok = after, ok && more && err == nil
		}
	}
	s.name, err = strconv.Unquote(rest)
	if !ok || err != nil || s.name == "" || s.name == "." || s.name == ".." || strings.ContainsAny(s.name, "/\x00") {
		return s, &stateError{fmt.Sprintf("bad line %q", line)}
	}
	return s, nil
}

// seenHead is the first line of a state.
type seenHead struct {
	at   int64  // when the sync began, by the clock of the view's file system
	boot string // since the machine went down, copies may not be what was written
}

const seenVersion = "stead view 3"

func (h seenHead) String() string { return fmt.Sprintf("%s %d %q\n", seenVersion, h.at, h.boot) }

func parseSeenHead(line string) (h seenHead, err error) {
	rest, ok := strings.CutPrefix(line, seenVersion+" ")
	if n, err := fmt.Sscanf(rest, "%d %q\n", &h.at, &h.boot); !ok || err != nil || n != 2 {
		return h, &stateError{fmt.Sprintf("bad first line %q", line)}
	}
	return h, nil
}

// newestWord begins the last line, which has the time of the newest file.
const newestWord = "newest "

// readNewest reads the last line of a state; found is false where there is none.
func readNewest(name string) (newest int64, found bool) {
	f, err := os.Open(name)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return 0, false
	}
	tail := make([]byte, min(fi.Size(), 64))
	n, _ := f.ReadAt(tail, fi.Size()-int64(len(tail)))
	text := strings.TrimSuffix(string(tail[:n]), "\n")
	number, ok := strings.CutPrefix(text[strings.LastIndexByte(text, '\n')+1:], newestWord)
	newest, err = strconv.ParseInt(number, 10, 64)
	return newest, ok && err == nil
}

// bootID names this start of the machine.
func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(text))
}

// seenReader reads a state from first to last.
type seenReader struct {
	seenHead
	file  *os.File
	lines *bufio.Reader
	next  seen // what peek tells
	ahead bool
}

// openSeen opens a state. There may be none, or one of another version: that is nil.
func openSeen(name string) *seenReader {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	r := &seenReader{file: f, lines: bufio.NewReaderSize(f, 64<<10)}
	line, err := r.lines.ReadString('\n')
	if err == nil {
		r.seenHead, err = parseSeenHead(line)
	}
	if err != nil {
		f.Close()
		return nil
	}
	return r
}

// peek is the next path of the folder at hand, or seenEnd.
func (r *seenReader) peek() (seen, error) {
	if !r.ahead {
		line, err := r.lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = &stateError{"it has no end"}
		}
		if err == nil {
			r.next, err = parseSeen(line[:len(line)-1])
		}
		if err != nil {
			return seen{}, err
		}
		r.ahead = true
	}
	return r.next, nil
}

// take goes on behind what peek told: after a folder, to its first path.
func (r *seenReader) take() { r.ahead = false }

// skip goes on behind a folder whose first path is next.
func (r *seenReader) skip() error {
	for depth := 1; depth > 0; {
		s, err := r.peek()
		if err != nil {
			return err
		}
		r.take()
		switch s.kind {
		case 'd':
			depth++
		case '.':
			depth--
		}
	}
	return nil
}

// seenWriter writes a state beside the one that is there.
type seenWriter struct {
	file *os.File
	b    *bufio.Writer
	line []byte
}

func newSeenWriter(name string, head seenHead) (*seenWriter, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	w := &seenWriter{file: f, b: bufio.NewWriterSize(f, 64<<10)}
	_, err = w.b.WriteString(head.String())
	return w, err
}

// put writes a line. What went wrong close tells.
func (w *seenWriter) put(s seen) {
	w.line = s.append(w.line[:0])
	w.b.Write(w.line) //nolint:errcheck // a bufio.Writer keeps its error
}

func (w *seenWriter) close(newest int64) error {
	_, err := fmt.Fprintf(w.b, "%s%d\n", newestWord, newest)
	return errors.Join(err, w.b.Flush(), w.file.Close())
}
