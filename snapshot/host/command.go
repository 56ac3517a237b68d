package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

// connection is a way to run commands as somebody who can read a host.
type connection interface {
	// connect makes sure that commands can run. It is called before each.
	connect(ctx context.Context) error
	// command prepares one that runs a script.
	command(ctx context.Context, t tools, script string) *exec.Cmd
	// failed explains how a command ended: a lostError where the connection did.
	failed(err error, complaint string) error
	io.Closer
}

// lostError says that the way to a host broke; what was asked can be asked again.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

const (
	maxBefore    = 64 << 10 // bytes that a login shell may print before a script begins
	maxComplaint = 8 << 10  // bytes of one line on stderr
	maxWait      = 5 * time.Second
)

// question is one command: what is sent, who reads the answer, and who hears
// complaints.
type question struct {
	script   string
	stdin    io.Reader // nil for none
	zip      bool      // the answer is compressed
	read     func(*bufio.Reader) error
	complain func(line string) // nil: nobody
}

// ask runs a command once.
func (s *Shell) ask(ctx context.Context, q question) error {
	if err := s.conn.connect(ctx); err != nil {
		return err
	}
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := s.conn.command(ctx, s.tools, q.script)
	cmd.WaitDelay = maxWait
	if q.stdin != nil {
		cmd.Stdin = outgoing{&s.wire, q.stdin}
	}
	errs := &lines{line: q.complain}
	cmd.Stderr = errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("running %s: %w", cmd.Args[0], err)
	}
	readErr := q.answer(bufio.NewReaderSize(&incoming{w: &s.wire, r: out, ctx: ctx}, 256<<10))
	if readErr != nil && readErr != errBroken {
		cancel() // what still comes is of no use
	}
	err = cmd.Wait()
	errs.end()
	switch {
	case outer.Err() != nil:
		return outer.Err()
	case readErr != nil && readErr != errBroken:
		return readErr
	case err != nil:
		return s.conn.failed(err, errs.last)
	}
	return readErr
}

// errBroken says that an answer ended too early.
var errBroken = errors.New("the answer broke off")

// broken turns the early end of a stream into errBroken.
func broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errBroken
	}
	return err
}

// answer skips what stands before the mark and gives the rest to read.
func (q question) answer(r *bufio.Reader) error {
	for skipped := 0; ; {
		line, err := r.ReadSlice('\n')
		if bytes.HasSuffix(line, []byte(begin+"\n")) {
			break
		}
		if skipped += len(line); err != nil && err != bufio.ErrBufferFull {
			return broken(err)
		}
		if skipped > maxBefore {
			return fmt.Errorf("the shell there prints more than %d bytes before it runs a command", maxBefore)
		}
	}
	if q.zip {
		z, err := gzip.NewReader(r)
		if err != nil {
			return broken(err)
		}
		z.Multistream(false)
		defer z.Close() //nolint:errcheck // its end was read
		r = bufio.NewReaderSize(z, 256<<10)
	}
	if err := q.read(r); err != nil {
		return broken(err)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		if err == nil {
			err = errors.New("more came than was asked for")
		}
		return broken(err)
	}
	return nil
}

// lines hands on what a command writes, line by line, and remembers the last.
type lines struct {
	line func(string)
	buf  []byte
	last string
}

func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			l.buf = append(l.buf, p[:min(len(p), max(maxComplaint-len(l.buf), 0))]...)
			break
		}
		l.buf = append(l.buf, p[:min(i, max(maxComplaint-len(l.buf), 0))]...)
		l.end()
		p = p[i+1:]
	}
	return n, nil
}

func (l *lines) end() {
	text := strings.TrimRight(string(l.buf), "\r")
	l.buf = l.buf[:0]
	if text == "" {
		return
	}
	l.last = text
	if l.line != nil {
		l.line(text)
	}
}
