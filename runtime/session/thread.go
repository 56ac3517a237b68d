package session

import (
	"os"
	goruntime "runtime"

	"github.com/stead-env/stead/runtime"
	"golang.org/x/sys/unix"
)

// OnThread calls f on a thread that ends with it: threads can't leave a mount
// namespace. It is never the main one, whose end would be no end.
func OnThread(f func() error) error {
	result := make(chan error)
	var run func()
	run = func() {
		goruntime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			done := make(chan struct{})
			go func() { defer close(done); run() }()
			<-done
			goruntime.UnlockOSThread()
			return
		}
		result <- f()
	}
	go run()
	return <-result
}

// PrivateMounts gives the calling thread a mount namespace of its own. What this
// machine unmounts later vanishes there too, so that a session keeps no device
// busy; nothing goes the other way.
func PrivateMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return &runtime.Error{Op: "making a mount namespace", Code: runtime.CodeEngine, Err: err,
			Remedy: "this machine, or the container around it, allows no mounts: CAP_SYS_ADMIN is missing"}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return &runtime.Error{Op: "making mounts private", Code: runtime.CodeEngine, Err: err}
	}
	return nil
}
