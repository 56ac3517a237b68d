package rootless_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime/enginetest"
	"github.com/stead-env/stead/runtime/rootless"
	"github.com/stead-env/stead/runtime/rootless/rootlesstest"
)

// enter is the first argument of a copy of the test program that enters a namespace.
const enter = "enter"

func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != enter {
		os.Exit(m.Run())
	}
	inside, alone, err := rootless.Await()
	if err == nil && !inside && rootless.Needed() {
		var code int
		if code, err = rootless.Enter(rootless.Find(os.TempDir())); err == nil {
			os.Exit(code)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(125)
	}
	os.Exit(act(alone, os.Args[2:]))
}

// act is what the copy does in its namespace.
func act(alone string, args []string) int {
	switch args[0] {
	case "tell":
		var data [2]unix.CapUserData
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		unix.Capget(&header, &data[0])
		out, _ := exec.Command("id", "-u").Output()
		_, left := os.LookupEnv("STEAD_NAMESPACE")
		fmt.Printf("%d %d %v %s %v %v %q\n", os.Getuid(), os.Getgid(), data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0,
			strings.TrimSpace(string(out)), left, os.Chown(args[1], 33, 33) == nil, alone)
	case "exit":
		code, _ := strconv.Atoi(args[1])
		return code
	case "kill":
		number, _ := strconv.Atoi(args[1])
		unix.Kill(os.Getpid(), syscall.Signal(number))
		time.Sleep(time.Minute)
	case "wait": // for signals, and tell of each
		ch := make(chan os.Signal, 16)
		signal.Notify(ch, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGQUIT, unix.SIGCONT)
		fmt.Println("up", os.Getppid())
		for sig := range ch {
			fmt.Println("got", int(sig.(syscall.Signal)))
			if sig != unix.SIGUSR1 && sig != unix.SIGCONT {
				time.Sleep(100 * time.Millisecond) // for a second one
				return 10 + len(ch)
			}
		}
	}
	return 0
}

func TestEnter(t *testing.T) {
	for name, subordinate := range map[string]bool{"subordinate ids": true, "a single id": false} {
		t.Run(name, func(t *testing.T) {
			u, program := rootlesstest.NewUser(t, subordinate), rootlesstest.Program(t)
			tell(t, u, program, subordinate)
			for _, code := range []int{0, 1, 42, 125, 255} {
				if got := run(u.Command(t, program, enter, "exit", strconv.Itoa(code))); got != strconv.Itoa(code) {
					t.Errorf("exit %d became %s", code, got)
				}
			}
			for _, sig := range []syscall.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGHUP} {
				if got := run(u.Command(t, program, enter, "kill", strconv.Itoa(int(sig)))); got != sig.String() {
					t.Errorf("%v became %s", sig, got)
				}
			}
			forwards(t, u, program)
			keys(t, u, program)
		})
	}
}

// run runs a command and says how it ended.
func run(cmd *exec.Cmd) string {
	cmd.Run() //nolint:errcheck // the state tells
	if cmd.ProcessState == nil {
		return "not started"
	}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return status.Signal().String()
	}
	return strconv.Itoa(cmd.ProcessState.ExitCode())
}

// tell looks at the process inside, and at one that it starts.
func tell(t *testing.T, u *rootlesstest.User, program string, subordinate bool) {
	t.Helper()
	file := u.Home + "/file"
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, int(u.UID), int(u.GID)); err != nil {
		t.Fatal(err)
	}
	out, err := u.Command(t, program, enter, "tell", file).CombinedOutput()
	want := fmt.Sprintf("%d %d true %d false %v ", u.UID, u.GID, u.UID, subordinate)
	if err != nil || !strings.HasPrefix(string(out), want) || strings.HasSuffix(string(out), " \"\"\n") != subordinate {
		t.Errorf("inside: %v, %s, want %s", err, out, want)
	}
	if !subordinate && !strings.Contains(string(out), "sudo usermod --add-subuids ") {
		t.Errorf("without a range for the user: %s", out)
	}
}

// forwards sends signals to the outer process alone.
func forwards(t *testing.T, u *rootlesstest.User, program string) {
	t.Helper()
	for _, sig := range []syscall.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT} {
		cmd := u.Command(t, program, enter, "wait")
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		var up string
		var parent int
		if _, err := fmt.Fscan(out, &up, &parent); err != nil || parent != cmd.Process.Pid {
			t.Errorf("the process inside said %s %d, %v", up, parent, err)
		}
		cmd.Process.Signal(unix.SIGUSR1)
		var got, first, second string
		fmt.Fscan(out, &got, &first)
		cmd.Process.Signal(sig)
		fmt.Fscan(out, &got, &second)
		cmd.Wait() //nolint:errcheck // the state tells
		if first != "10" || second != strconv.Itoa(int(sig)) || cmd.ProcessState.ExitCode() != 10 {
			t.Errorf("SIGUSR1 and %v came as %s and %s; exit code %d", sig, first, second, cmd.ProcessState.ExitCode())
		}
	}
}

// keys types at a terminal with job control: what is typed comes once.
func keys(t *testing.T, u *rootlesstest.User, program string) {
	t.Helper()
	cmd := u.Command(t, "bash", "--norc", "-i")
	cmd.Env = append(cmd.Env, "PS1=> ", "TERM=dumb")
	term := enginetest.StartTerminal(t, cmd, 24, 200)
	term.Expect("> ")
	term.Write(program + " " + enter + " wait\n")
	term.Expect("up ")
	term.Write("\x1a")
	term.Expect("Stopped")
	term.Write("fg\n")
	term.Expect("got 18") // SIGCONT, after which the terminal is its own again
	term.Write("\x03")
	term.Expect("got 2")
	term.Expect("> ")
	term.Write("echo code $?\n")
	term.Expect("code 10")
	term.Write("exit 3\n")
	term.Exit(3)
}
