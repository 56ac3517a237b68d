package host

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// attributes collect what getfattr or getcap print.
type attributes struct {
	of     map[string]map[string]string
	shared map[string]map[string]string // the same values, once: thousands of files have the same ACL
	bad    map[string]error
	size   int
	full   bool   // there are more than are kept
	path   string // that getfattr is at
	// unclear are lines of getcap that can be taken apart in several ways.
	unclear [][]capSplit
}

const (
	maxAttributeBytes = 48 << 20 // bytes of paths and values kept
	maxAttribute      = 256 << 10
)

func newAttributes() *attributes {
	return &attributes{of: map[string]map[string]string{}, shared: map[string]map[string]string{}, bad: map[string]error{}}
}

// read takes the lines of getfattr, or of getcap, up to the mark.
func (a *attributes) read(r *bufio.Reader, line func(string)) error {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 64<<10), maxAttribute)
	for in.Scan() {
		text := in.Text()
		if status, ok := strings.CutPrefix(text, endWhole+" "); ok {
			if n, err := strconv.Atoi(status); err != nil || n > 123 { // xargs(1): a command failed
				return fmt.Errorf("reading extended attributes: status %s", status)
			}
			return nil
		}
		line(text)
	}
	if in.Err() != nil {
		return fmt.Errorf("reading extended attributes: %w", in.Err())
	}
	return errBroken
}

// fattr takes a line of getfattr -e hex: "# file: PATH", then NAME=0xVALUE.
func (a *attributes) fattr(line string) {
	if p, ok := strings.CutPrefix(line, "# file: "); ok {
		a.path = relative(unescapeOctal(p))
		return
	}
	name, value, _ := strings.Cut(line, "=")
	if name = unescapeOctal(name); line == "" || a.path == "" || !keptXattr(name) {
		return
	}
	b, err := hex.DecodeString(strings.TrimPrefix(value, "0x"))
	if err != nil {
		a.bad[a.path] = fmt.Errorf("attribute %s: %w", name, errMalformed)
		return
	}
	a.set(a.path, name, string(b))
}

func (a *attributes) set(p, name, value string) {
	var err error
	if name == "security.capability" {
		value, err = capabilityV2(value)
	}
	switch {
	case err != nil:
		a.bad[p] = err
		return
	case a.size > maxAttributeBytes:
		a.full = true
		return
	}
	a.size += len(p) + 100
	next := map[string]string{name: value}
	for k, v := range a.of[p] {
		next[k] = v
	}
	key := attributeKey(next)
	if known := a.shared[key]; known != nil {
		next = known
	} else {
		a.size += len(key) + 300
		a.shared[key] = next
	}
	a.of[p] = next
}

func attributeKey(m map[string]string) string {
	var names []string
	for k := range m {
		names = append(names, k)
	}
	sort.Strings(names)
	var b strings.Builder
	for _, k := range names {
		fmt.Fprintf(&b, "%d %s%d %s", len(k), k, len(m[k]), m[k])
	}
	return b.String()
}

// cap takes a line of getcap: "./PATH cap_net_raw=ep", in older versions
// "./PATH = cap_net_raw+ep". Where the path may end in what looks like a capability,
// only the listing tells.
func (a *attributes) cap(line string) {
	splits := capSplits(line)
	switch {
	case len(splits) == 1:
		a.setCap(splits[0])
	case len(splits) > 1 && a.size < maxAttributeBytes:
		a.size += len(line) + 100
		a.unclear = append(a.unclear, splits)
	}
}

// capSplit is a line of getcap, taken apart in one way.
type capSplit struct{ path, text string }

// capSplits takes a line apart in all ways, the longest path first.
func capSplits(line string) []capSplit {
	var splits []capSplit
	p, text := line, ""
	for {
		i := strings.LastIndexByte(p, ' ')
		if i < 0 || !isClause(p[i+1:]) || len(splits) > 16 {
			break
		}
		p, text = p[:i], p[i+1:]+" "+text
		if strings.HasPrefix(p, "./") {
			splits = append(splits, capSplit{relative(p), text})
		}
	}
	return splits
}

func (a *attributes) setCap(c capSplit) {
	value, err := parseCapability(c.text)
	if err != nil {
		a.bad[c.path] = err
		return
	}
	a.set(c.path, "security.capability", value)
}

// settle takes the unclear lines for the longest path that is listed.
func (a *attributes) settle(ctx context.Context, l *listing) error {
	var paths []string
	for _, splits := range a.unclear {
		for _, c := range splits {
			paths = append(paths, c.path)
		}
	}
	there, err := l.lookups(ctx, paths)
	for _, splits := range a.unclear {
		i := slices.IndexFunc(splits, func(c capSplit) bool { return there[c.path].Type == snapshot.Regular })
		if i >= 0 {
			a.setCap(splits[i])
		}
	}
	a.unclear = nil
	return err
}

// capNames are the capabilities by number (linux/capability.h).
var capNames = strings.Fields(`chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap
	linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio
	sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease
	audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf
	checkpoint_restore`)

var errCapability = errors.New("capabilities of an unknown form")

// clause is a part of a text such as "cap_net_raw,cap_chown=ep": which capabilities, and
// what is done with which flags.
type clause struct {
	bits uint64
	ops  []clauseOp
}

type clauseOp struct {
	op    byte // = + -
	flags string
}

func isClause(word string) bool {
	_, err := parseClause(word)
	return err == nil
}

func parseClause(word string) (clause, error) {
	i := strings.IndexAny(word, "=+-")
	if i < 0 {
		return clause{}, errCapability
	}
	c, names := clause{}, word[:i]
	if names == "" && word[0] != '=' {
		return clause{}, errCapability
	}
	if names == "" || names == "all" {
		c.bits = 1<<len(capNames) - 1
	} else {
		for name := range strings.SplitSeq(names, ",") {
			bit, err := capNumber(name)
			if err != nil {
				return clause{}, err
			}
			c.bits |= 1 << bit
		}
	}
	for i < len(word) {
		j := i + 1
		for j < len(word) && strings.IndexByte("eip", word[j]) >= 0 {
			j++
		}
		if strings.IndexByte("=+-", word[i]) < 0 {
			return clause{}, errCapability
		}
		c.ops = append(c.ops, clauseOp{word[i], word[i+1 : j]})
		i = j
	}
	return c, nil
}

func capNumber(name string) (int, error) {
	short, ok := strings.CutPrefix(name, "cap_")
	if !ok { // newer than the table there
		n, err := strconv.Atoi(name)
		if err != nil || n < 0 || n > 63 {
			return 0, errCapability
		}
		return n, nil
	}
	for n, known := range capNames {
		if known == short {
			return n, nil
		}
	}
	return 0, errCapability
}

// parseCapability turns the text of cap_from_text(3) into struct vfs_cap_data.
func parseCapability(text string) (string, error) {
	sets := map[byte]uint64{}
	for word := range strings.FieldsSeq(text) {
		c, err := parseClause(word)
		if err != nil {
			return "", err
		}
		for _, o := range c.ops {
			if o.op == '=' {
				for _, f := range "eip" {
					sets[byte(f)] &^= c.bits
				}
			}
			for _, f := range o.flags {
				if o.op == '-' {
					sets[byte(f)] &^= c.bits
				} else {
					sets[byte(f)] |= c.bits
				}
			}
		}
	}
	magic := uint32(0x02000000)
	if sets['e'] != 0 {
		magic |= 1 // VFS_CAP_FLAGS_EFFECTIVE
	}
	b := binary.LittleEndian.AppendUint32(nil, magic)
	for shift := 0; shift < 64; shift += 32 {
		b = binary.LittleEndian.AppendUint32(b, uint32(sets['p']>>shift))
		b = binary.LittleEndian.AppendUint32(b, uint32(sets['i']>>shift))
	}
	return string(b), nil
}
