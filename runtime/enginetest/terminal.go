package enginetest

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// Terminal is a command that a test types into.
type Terminal struct {
	Cmd    *exec.Cmd
	Master *os.File
	t      testing.TB
	seen   bytes.Buffer
}

// StartTerminal starts a command on a terminal of that size.
func StartTerminal(t testing.TB, cmd *exec.Cmd, rows, columns uint16) *Terminal {
	t.Helper()
	term := &Terminal{t: t, Cmd: cmd}
	var err error
	term.Master, err = pty.StartWithSize(cmd, &pty.Winsize{Rows: rows, Cols: columns})
	must(t, err)
	// A pty isn't read with a deadline: a session that hangs is killed instead.
	guard := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	t.Cleanup(func() { guard.Stop() })
	return term
}

// Expect reads until text comes, and forgets what came before it.
func (term *Terminal) Expect(text string) {
	term.t.Helper()
	buf := make([]byte, 4096)
	for !strings.Contains(term.seen.String(), text) {
		n, err := term.Master.Read(buf)
		term.seen.Write(buf[:n])
		if err != nil {
			term.t.Fatalf("waiting for %q: %v; the terminal shows %q", text, err, term.seen.String())
		}
	}
	term.seen.Next(strings.Index(term.seen.String(), text) + len(text))
}

// Write types text.
func (term *Terminal) Write(text string) {
	term.t.Helper()
	_, err := term.Master.WriteString(text)
	must(term.t, err)
}

// Exit waits for the command, which has to end with that code.
func (term *Terminal) Exit(want int) {
	term.t.Helper()
	go io.Copy(io.Discard, term.Master)
	if c := code(term.Cmd.Wait()); c != want {
		term.t.Errorf("exit code %d, want %d", c, want)
	}
	term.Master.Close()
}
