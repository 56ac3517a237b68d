package oci

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stead-env/stead/runtime"
)

// rawFilter is the annotation by which crun takes a filter as the kernel has it
// instead of the specification's own: crun(1). libseccomp takes some 10 ms to make
// the same, half of the start of a session.
const rawFilter = "run.oci.seccomp_bpf_data"

// filter is what an OCI runtime is told of the system calls that a session may make.
type filter struct {
	seccomp     *specs.LinuxSeccomp
	annotations map[string]string
}

// madeFilter waits for a filter.
type madeFilter func() (filter, error)

// makeFilter has a filter made, which takes as long as the mounts do, beside them.
func makeFilter(binary string, spec runtime.Spec, at runtime.Placement) madeFilter {
	var f filter
	var err error
	done := make(chan struct{})
	// The first specification takes long to write, for the many types it may have.
	go json.Marshal(&specs.Spec{})
	go func() {
		defer close(done)
		f.seccomp, err = runtime.Filter(spec, at)
		if err == nil && isCrun(binary) {
			f, err = rawer(f.seccomp, binary)
		}
	}()
	return func() (filter, error) {
		<-done
		return f, err
	}
}

// rawer is a filter for crun. Where that knows the annotation, the specification's own
// is the one that ends whatever is started with it: it isn't used, and takes no time.
func rawer(seccomp *specs.LinuxSeccomp, binary string) (filter, error) {
	text, err := encode(seccomp)
	if err != nil {
		return filter{}, fmt.Errorf("building the system call filter: %w", err)
	}
	if contains(binary, rawFilter) {
		seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActKillProcess}
	}
	return filter{seccomp, map[string]string{rawFilter: text}}, nil
}

// encode is a filter as the annotation has it.
func encode(seccomp *specs.LinuxSeccomp) (string, error) {
	program, err := compile(seccomp)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := binary.Write(&b, binary.NativeEndian, program); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// contains reports whether a word stands in a file. A file that can't be read has none.
func contains(path, word string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	block, kept := make([]byte, 64<<10), 0
	for {
		n, err := io.ReadFull(f, block[kept:])
		if bytes.Contains(block[:kept+n], []byte(word)) {
			return true
		}
		if err != nil {
			return false
		}
		kept = copy(block, block[len(block)-len(word):])
	}
}
