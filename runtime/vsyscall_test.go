package runtime

import "testing"

func TestVsyscall(t *testing.T) {
	for libc, want := range map[string]bool{"glibc 2.5": true, "glibc 2.12": true, "glibc 2.13": true, "glibc 2.14": false,
		"glibc 2.31": false, "glibc 3.0": false, "musl 1.2": false, "": false, "glibc": false, "glibc 2": false, "glibc 2.x": false} {
		if got := callsVsyscall(libc); got != want {
			t.Errorf("%q: %v, want %v", libc, got, want)
		}
	}
	const line = "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"
	if !hasVsyscall([]byte("7ffd3a5f9000-7ffd3a5fb000 r-xp 00000000 00:00 0  [vdso]\n"+line)) || hasVsyscall([]byte(" [vdso]\n")) {
		t.Error("the table of memory is misread")
	}
	if err := CheckVsyscall("glibc 2.31", "amd64"); err != nil {
		t.Errorf("a new library: %v", err)
	}
	if err := CheckVsyscall("glibc 2.5", "arm64"); err != nil {
		t.Errorf("another processor: %v", err)
	}
}
