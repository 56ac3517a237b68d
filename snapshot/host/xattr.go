package host

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// keptXattr reports whether a manifest holds an attribute: file capabilities,
// POSIX ACLs, and what users set, but for what overlayfs keeps for itself.
func keptXattr(name string) bool {
	switch name {
	case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

// xattrs reads the kept attributes with the given calls; buf is room for names
// and values, which the kernel limits to 64 KiB each (xattr(7)).
func xattrs(buf []byte, list func([]byte) (int, error), get func(string, []byte) (int, error)) (map[string]string, error) {
	n, err := retry(func() (int, error) { return list(buf) })
	if err == unix.ENOTSUP || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var kept map[string]string
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if !keptXattr(name) {
			continue
		}
		n, err := retry(func() (int, error) { return get(name, buf) })
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return kept, fmt.Errorf("attribute %s: %w", name, err)
		}
		value := string(buf[:n])
		if name == "security.capability" {
			if value, err = capabilityV2(value); err != nil {
				return kept, err
			}
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[name] = value
	}
	return kept, nil
}

// capabilityV2 brings struct vfs_cap_data (linux/capability.h) to its second
// form: the first lacks the upper words, the third adds the owner of a user
// namespace, which means nothing on another machine.
func capabilityV2(v string) (string, error) {
	const flags, v1, v2, v3 = 0x00ffffff, 0x01000000, 0x02000000, 0x03000000
	if len(v) < 4 {
		return "", fmt.Errorf("attribute security.capability: %d bytes", len(v))
	}
	magic := binary.LittleEndian.Uint32([]byte(v[:4]))
	body := v[4:]
	switch {
	case magic&^flags == v1 && len(v) == 12:
		body += strings.Repeat("\x00", 8)
	case magic&^flags == v2 && len(v) == 20:
	case magic&^flags == v3 && len(v) == 24:
		body = body[:16]
	default:
		return "", fmt.Errorf("attribute security.capability: unknown form %#x of %d bytes", magic, len(v))
	}
	return string(binary.LittleEndian.AppendUint32(nil, magic&flags|v2)) + body, nil
}
