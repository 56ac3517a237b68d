package envs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
)

// What a log keeps: a command without end fills no disk. Of its end there is at least
// logPart.
const (
	logHead = 16 << 20
	logPart = 16 << 20
)

// buildLog is what the commands of a build wrote: where that is too much, its begin and
// its end.
type buildLog struct {
	mu         sync.Mutex // an engine may copy the command's two outputs at once
	file       *os.File
	head, part int64 // bounds; see logHead
	size       int64 // the file's
	tail       int64 // where the end begins, behind the line that tells; 0 before there is one
	left       int64 // bytes left out
}

func createLog(name string) (*buildLog, error) {
	f, err := os.Create(name)
	return &buildLog{file: f, head: logHead, part: logPart}, err
}

func (l *buildLog) Name() string { return l.file.Name() }
func (l *buildLog) Close() error { return l.file.Close() }

// line tells what is left out; it always has the same length.
func (l *buildLog) line() string {
	return fmt.Sprintf("\n[stead: %019d bytes are left out here]\n", l.left)
}

// Write appends, and leaves out what is between begin and end whenever there are twice as
// many bytes as the end is to have.
func (l *buildLog) Write(p []byte) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(p) > 0 && err == nil {
		begin := max(l.tail, l.head)
		if l.size >= begin+2*l.part {
			if err := l.shorten(begin); err != nil {
				return n, err
			}
			continue
		}
		var m int
		m, err = l.file.WriteAt(p[:min(int64(len(p)), begin+2*l.part-l.size)], l.size)
		l.size += int64(m)
		n, p = n+m, p[m:]
	}
	return n, err
}

// shorten keeps the last part of what follows begin, from the start of a line.
func (l *buildLog) shorten(begin int64) error {
	from := l.size - l.part
	var buf [64 << 10]byte
	got, err := l.file.ReadAt(buf[:min(int64(len(buf)), l.part)], from)
	if err != nil && err != io.EOF {
		return err
	}
	if i := bytes.IndexByte(buf[:got], '\n'); i >= 0 && int64(i) < l.part-1 {
		from += int64(i) + 1
	}
	l.left += from - begin
	line := l.line()
	at := l.head + int64(len(line))
	if _, err := l.file.WriteAt([]byte(line), l.head); err != nil {
		return err
	}
	// What is read lies behind all that is written.
	kept, err := io.Copy(io.NewOffsetWriter(l.file, at), io.NewSectionReader(l.file, from, l.size-from))
	if err != nil {
		return err
	}
	l.tail, l.size = at, at+kept
	return l.file.Truncate(l.size)
}
