package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// somebody is an ordinary user made for the benchmark, with the program, the fleet and
// a store of their own.
type somebody struct {
	home     string
	uid, gid int
}

// newUser makes a user, with subordinate ids or without, in a folder that nobody else
// can enter, and has the env made there.
func (b *bench) newUser(ctx context.Context, subordinate bool) (_ *somebody, err error) {
	home, err := os.MkdirTemp("", "stead-bench-")
	if err != nil {
		return nil, err
	}
	name := filepath.Base(home)
	b.cleanup = append(b.cleanup, func() error { return os.RemoveAll(home) })
	if err := b.command(ctx, home, "useradd", "--no-create-home", "--home-dir", home, name); err != nil {
		return nil, err
	}
	b.cleanup = append(b.cleanup, func() error { return exec.Command("userdel", name).Run() })
	account, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	u := &somebody{home: home}
	uid, err1 := strconv.Atoi(account.Uid)
	gid, err2 := strconv.Atoi(account.Gid)
	u.uid, u.gid = uid, gid
	err = errors.Join(err1, err2, b.setRanges(ctx, name, subordinate), b.command(ctx, "", "cp", b.stead, home+"/stead"),
		b.command(ctx, "", "cp", "-r", b.fleet, home+"/fleet"), os.MkdirAll(home+"/project", 0o755),
		os.MkdirAll(home+"/store", 0o700), b.command(ctx, "", "cp", "-r", filepath.Join(b.store, "blobs"), home+"/store/blobs"))
	if err != nil {
		return nil, err
	}
	if err := filepath.WalkDir(home, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, gid))
	}); err != nil {
		return nil, err
	}
	return u, b.as(ctx, u, "pull", "server")
}

// setRanges gives the user subordinate ids, or takes those that useradd gave.
func (b *bench) setRanges(ctx context.Context, name string, subordinate bool) error {
	for _, kind := range []string{"uid", "gid"} {
		text, err := os.ReadFile("/etc/sub" + kind)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		free, given := 100000, ""
		for line := range strings.Lines(string(text)) {
			f := strings.Split(strings.TrimSpace(line), ":")
			if len(f) != 3 {
				continue
			}
			first, _ := strconv.Atoi(f[1])
			count, _ := strconv.Atoi(f[2])
			free = max(free, first+count)
			if f[0] == name {
				given = fmt.Sprintf("%d-%d", first, first+count-1)
			}
		}
		switch {
		case subordinate && given == "":
			err = b.command(ctx, "", "usermod", fmt.Sprintf("--add-sub%ss", kind), fmt.Sprintf("%d-%d", free, free+65535), name)
		case !subordinate && given != "":
			err = b.command(ctx, "", "usermod", fmt.Sprintf("--del-sub%ss", kind), given, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// as runs stead as that user.
func (b *bench) as(ctx context.Context, u *somebody, args ...string) error {
	cmd := exec.CommandContext(ctx, u.home+"/stead", args...)
	cmd.Dir = u.home + "/project"
	cmd.Env = []string{"HOME=" + u.home, "PATH=" + os.Getenv("PATH"), "STEAD_FLEET=" + u.home + "/fleet", "STEAD_STORE=" + u.home + "/store"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("stead %s as an ordinary user: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
