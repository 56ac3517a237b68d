package enginetest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
)

// specVariable hands a session to a copy of the test program.
const specVariable = "ENGINETEST_SPEC"

// Main is the TestMain of a driver's tests. Signals, terminals and sudden death
// need a process of their own: a copy of the test program that runs one session.
func Main(m *testing.M, engine runtime.Engine) {
	if code, ok := session.Hook(os.Args); ok {
		os.Exit(code)
	}
	text, ok := os.LookupEnv(specVariable)
	if !ok {
		os.Exit(m.Run())
	}
	var spec runtime.Spec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		panic(err)
	}
	res, err := engine.Run(context.Background(), spec, runtime.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(runtime.ExitCode(err))
	}
	os.Exit(res.ExitCode)
}

// helper is the command that runs a session in a process of its own.
func helper(t *testing.T, spec runtime.Spec) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	text, err := json.Marshal(spec)
	must(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), specVariable+"="+string(text))
	return cmd
}

// Helper is the command that runs a session in a process of its own, for a driver's
// own tests.
func Helper(t *testing.T, spec runtime.Spec) *exec.Cmd { return helper(t, spec) }

func code(err error) int {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// idle is a script that runs a command and then waits for signals. It starts no
// program for that: bash loops for ever where SIGINT meets it in a wrong moment of
// starting or waiting for one.
func idle(command string) string {
	return "mkfifo /tmp/never; exec 3<>/tmp/never; " + command + "; while :; do read -t 0.02 -u 3; done"
}

func (s *suite) signals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1} {
		if signal.Ignored(sig) {
			continue // as under nohup(1): then it is ignored in the session, too
		}
		script := fmt.Sprintf("trap 'echo got; exit 7' %d; "+idle("echo ready"), sig)
		cmd := helper(t, s.spec("bash", "-c", script))
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewReader(out)
		if line, err := lines.ReadString('\n'); line != "ready\n" {
			t.Errorf("the session said %q, %v", line, err)
		}
		must(t, cmd.Process.Signal(sig))
		rest, _ := io.ReadAll(lines)
		if c := code(cmd.Wait()); c != 7 || string(rest) != "got\n" {
			t.Errorf("%v: exit code %d, said %q", sig, c, rest)
		}
	}
	// What sleep(1) doesn't catch ends it.
	cmd := helper(t, s.spec("bash", "-c", "echo; exec sleep 600"))
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	out.Read(make([]byte, 1))
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if c := code(cmd.Wait()); c != 143 {
		t.Errorf("sleep ended by SIGTERM: exit code %d, want 143", c)
	}
}

// killed kills the process above the session, in both kinds of session.
func (s *suite) killed(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		for _, delay := range []time.Duration{2, 5, 10, 20, 40, 200} {
			spec := s.spec("bash", "-c", "trap '' HUP TERM; (setsid sleep 600 &); echo x >/tmp/x; while :; do sleep 600; done")
			spec.Terminal = terminal
			cmd := helper(t, spec)
			if terminal {
				master, err := pty.Start(cmd)
				must(t, err)
				defer master.Close()
			} else {
				must(t, cmd.Start())
			}
			time.Sleep(delay * time.Millisecond)
			must(t, cmd.Process.Kill())
			cmd.Wait()
		}
	}
	noProcess(t, s.scratch)
	must(t, s.engine.Sweep(t.Context(), s.scratch))
	s.nothingLeft(t)
}

// many starts sessions ten at a time and kills some of them at any moment of their
// life: the ones that end leave nothing, and the next Sweep clears the others.
func (s *suite) many(t *testing.T) {
	const sessions, kills = 100, 20
	slots := make(chan struct{}, 10)
	var wg sync.WaitGroup
	for i := range sessions + kills {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			script := fmt.Sprintf("echo %d >/tmp/n; (setsid sleep 600 &); exit %d", i, i%100)
			if i%6 == 5 { // every sixth of 120
				script = "trap '' HUP TERM INT; echo x >/tmp/x; (setsid sleep 600 &); while :; do sleep 600; done"
			}
			cmd := helper(t, s.spec("bash", "-c", script))
			var errs bytes.Buffer
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Error(err)
				return
			}
			if i%6 == 5 {
				time.Sleep(time.Duration(i) * 3 * time.Millisecond)
				cmd.Process.Kill()
				cmd.Wait()
				return
			}
			if c := code(cmd.Wait()); c != i%100 {
				t.Errorf("session %d: exit code %d\n%s", i, c, errs.String())
			}
		})
	}
	wg.Wait()
	noProcess(t, s.scratch)
	must(t, s.engine.Sweep(t.Context(), s.scratch))
	s.nothingLeft(t)
}

func (s *suite) open(t *testing.T, args ...string) *Terminal {
	t.Helper()
	spec := s.spec(args...)
	spec.Terminal = true
	spec.Env = append(spec.Env, "TERM=dumb", "PS1=> ")
	return StartTerminal(t, helper(t, spec), 33, 111)
}

func (s *suite) terminal(t *testing.T) {
	term := s.open(t, "bash", "-c", `trap 'stty size' WINCH; trap 'exit 99' INT; `+idle("[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && stty size"))
	term.Expect("33 111")
	must(t, pty.Setsize(term.Master, &pty.Winsize{Rows: 44, Cols: 99}))
	term.Expect("44 99")
	term.Write("\x03")
	term.Exit(99)

	term = s.open(t, "bash", "-c", "echo up; exec sleep 600")
	term.Expect("up")
	term.Write("\x03")
	term.Exit(130)

	term = s.open(t, "bash", "--norc", "-i")
	term.Expect("> ")
	term.Write("sleep 600\n")
	time.Sleep(100 * time.Millisecond)
	term.Write("\x1a")
	term.Expect("Stopped")
	term.Write("jobs\n")
	term.Expect("Stopped")
	term.Write("kill %1; exit 5\n")
	time.Sleep(100 * time.Millisecond)
	term.Write("exit 5\n")
	term.Exit(5)

	term = s.open(t, "nosuch")
	term.Expect("no such command")
	term.Exit(127)
}

func (s *suite) hangup(t *testing.T) {
	for _, script := range []string{
		"echo up; exec sleep 600", "trap '' HUP TERM INT; (setsid sleep 600 &); sleep 600 & echo up; while :; do sleep 600; done",
	} {
		term := s.open(t, "bash", "-c", script)
		term.Expect("up")
		term.Master.Close()
		term.Cmd.Wait()
	}
	term := s.open(t, "bash", "--norc", "-i")
	term.Expect("> ")
	must(t, term.Cmd.Process.Signal(syscall.SIGTERM))
	term.Cmd.Wait()
	term.Master.Close()
	s.nothingLeft(t)
}
