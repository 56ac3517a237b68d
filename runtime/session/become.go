package session

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/stead-env/stead/runtime"
	"golang.org/x/sys/unix"
)

// becomeHook is the word after the name by which a session starts this program to
// run its command as another user: see Become. Nobody types it.
const becomeHook = "stead: become"

// Become are the words before a command that a session, as root of a user namespace
// with one id, starts to have it run with that uid and gid. The session has this
// program as descriptor 3.
func Become(uid, gid uint32) []string {
	return []string{byFD(3), becomeHook, strconv.Itoa(int(uid)), strconv.Itoa(int(gid))}
}

// become runs a command in a user namespace in which root, the only user here, has
// another uid and gid. It passes signals on and ends as the command ends.
func become(args []string) (int, error) {
	unix.CloseOnExec(3)
	uid, err := strconv.Atoi(args[0])
	if err != nil {
		return runtime.CodeEngine, err
	}
	gid, err := strconv.Atoi(args[1])
	if err != nil {
		return runtime.CodeEngine, err
	}
	words := args[2:]
	path, err := exec.LookPath(words[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return startCode(err), err
	}
	// What is sent from outside comes here; what is typed goes to the command's own
	// process group.
	signals := make(chan os.Signal, 16)
	for sig := unix.SIGHUP; sig <= unix.SIGSYS; sig++ {
		if sig != unix.SIGCHLD && sig != unix.SIGURG && !signal.Ignored(sig) { // SIGURG is Go's own
			signal.Notify(signals, sig)
		}
	}
	_, err = unix.IoctlGetTermios(0, unix.TCGETS)
	terminal := err == nil
	command, err := os.StartProcess(path, words, &os.ProcAttr{Env: os.Environ(),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, Setpgid: true,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: 0, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: 0, Size: 1}}}})
	if err != nil {
		return startCode(err), err
	}
	if terminal { // an error: there is no terminal to control
		unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, command.Pid)
	}
	go func() {
		for sig := range signals {
			command.Signal(sig)
		}
	}()
	return await(command.Pid)
}

// startCode is the exit code for a command that can't be started.
func startCode(err error) int {
	switch {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound):
		return runtime.CodeNotFound
	case errors.Is(err, os.ErrPermission) || errors.Is(err, unix.ENOEXEC) || errors.Is(err, unix.EISDIR):
		return runtime.CodeNotExecutable
	}
	return runtime.CodeEngine
}

// await waits for the command. As a session's first process nobody would continue it
// when it stops at its terminal, and so the kernel wouldn't stop it: setpgid(2) on
// orphaned process groups.
func await(pid int) (int, error) {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return runtime.CodeEngine, fmt.Errorf("waiting for the command: %w", err)
		case status.Exited():
			return status.ExitStatus(), nil
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		case status.Stopped() && status.StopSignal() != unix.SIGSTOP:
			unix.Kill(pid, unix.SIGCONT)
		}
	}
}
