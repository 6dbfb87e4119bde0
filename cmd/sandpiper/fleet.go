package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
	"github.com/sandpiper-edge/sandpiper/cmd/internal/configfile"
	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

func newFleetCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "fleet", Short: "Add, look at and remove devices"}
	cmd.AddCommand(newFleetAddCommand(a), newFleetListCommand(a), newFleetShowCommand(a), newFleetTokenCommand(a), newFleetRemoveCommand(a), newFleetSimulateCommand(a))
	return cmd
}

func newFleetAddCommand(a *app) *cobra.Command {
	var labels []string
	var out, dataDir, broker string
	cmd := &cobra.Command{
		Use:   "add DEVICE --out agent.toml",
		Short: "Add a device and write all that its agent needs",
		Long: `Add a device and write all that its agent needs into one file, mode 0600: broker,
identity, credential, signed root document and data folder. The credential is
stored hashed and cannot be shown again.`,
		Args: exactArgs("DEVICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := parseLabels(labels)
			if err != nil {
				return err
			}
			if other, err := config.LoadAgent(out); err == nil && other.Device != args[0] {
				return fmt.Errorf("%s holds the only copy of the credential of device %s; name another file, or remove it", out, other.Device)
			}
			file, err := a.createFile(out, 0o600)
			if err != nil {
				return err
			}
			defer file.discard()
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				if err := knowsBroker(ctx, c, broker); err != nil {
					return err
				}
				added, err := c.AddDevice(ctx, api.NewDevice{ID: args[0], Labels: set})
				if err != nil {
					return err
				}
				agent := config.Agent{
					Fleet: added.Fleet, Device: added.Device.ID, Broker: added.Broker,
					Username: added.Username, Token: added.Token, Root: added.Root, DataDir: dataDir,
				}
				if broker != "" {
					agent.Broker = broker
				}
				if dataDir == "" {
					agent.DataDir = "sandpiper-agent-" + agent.Device
				}
				if err := configfile.EncodeAgent(file, agent); err != nil {
					return err
				}
				if err := file.commit(); err != nil {
					return err
				}
				if out != "-" {
					a.notef("added %s; start it with `sandpiper-agent run --config %s`", agent.Device, out)
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&labels, "label", nil, "a label to select the device by, key=value; may be given several times")
	f.StringVar(&out, "out", "", "file to write, or - for stdout")
	f.StringVar(&dataDir, "data-dir", "", "data folder of the agent (default sandpiper-agent-DEVICE beside the file)")
	f.StringVar(&broker, "broker", "", "broker URL to write, when the device knows it by another name")
	_ = cmd.MarkFlagRequired("out")
	return cmd
}

// knowsBroker makes sure, before a credential is made, that the file will name
// a broker.
func knowsBroker(ctx context.Context, c *api.Client, given string) error {
	if given != "" {
		return nil
	}
	s, err := c.Server(ctx)
	if err == nil && s.Broker == "" {
		return usagef("the broker takes a free port when the server starts, and none runs: start it first, or give --broker tcp://host:port")
	}
	return err
}

// parseLabels reads key=value pairs.
func parseLabels(pairs []string) (map[string]string, error) {
	set := map[string]string{}
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" || v == "" {
			return nil, usagef("--label %q is not key=value; write, for example, --label site=north", p)
		}
		if _, twice := set[k]; twice {
			return nil, usagef("--label %s is given twice", k)
		}
		set[k] = v
	}
	return set, nil
}

func newFleetListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls [FILTER]",
		Short: "List devices",
		Long: `List devices: all, or those for which FILTER is true.

Fields of a filter are the keys of labels (or label.KEY), id, kernel, os, arch and
agent; up (online, offline or new); seen and added (30s, 5m, 36h, 7d ago; a device
that is online is seen now); free (10MB); boot; and model.NAME, previous.NAME,
shadow.NAME, cached.NAME and failed.NAME (v7 or none). Comparisons are
= != < <= > >=, ~ and !~ with * and ?, and in (...), joined by and, or, not and
parentheses. A value with blanks is in quotes.`,
		Example: `  sandpiper fleet ls 'site=oslo and kernel!=generic and seen<5m and model.pump!=v7'
  sandpiper fleet ls 'not hw in (rev2, rev3) or free<10MB' -o name`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			where := strings.Join(args, " ")
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				devices, err := c.Devices(ctx, where)
				if err != nil {
					return err
				}
				return a.printDevices(devices)
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func (a *app) printDevices(devices []fleet.Device) error {
	names := make([]string, len(devices))
	for i, d := range devices {
		names[i] = d.ID
	}
	return a.print(devices, names, func(g *grid) {
		g.header("device", "up", "seen", "labels", "models")
		for _, d := range devices {
			g.row(d.ID, upWord(d), seen(d), joinLabels(d.Labels), joinVersions(d.Have))
		}
	})
}

// seen says when d was there last: connected devices with nothing to say are there.
func seen(d fleet.Device) string {
	if d.Online {
		return "now"
	}
	return ago(d.Seen)
}

func newFleetShowCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show DEVICE",
		Short: "Show a device and what it reported",
		Args:  exactArgs("DEVICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				d, err := c.Device(ctx, args[0])
				if err != nil {
					return err
				}
				inputs, err := c.Inputs(ctx, args[0])
				if err != nil {
					return err
				}
				shown := struct {
					fleet.Device
					Inputs []controlplane.InputDrift `json:"inputs,omitempty"`
				}{d, inputs}
				return a.print(shown, []string{d.ID}, func(g *grid) {
					drawDevice(g, d)
					drawInputs(g, inputs)
				})
			})
		},
	}
	a.addOutput(cmd)
	return cmd
}

func drawDevice(g *grid, d fleet.Device) {
	g.row("device", d.ID)
	g.row("up", upWord(d))
	g.row("seen", seen(d))
	if d.Online {
		g.row("last message", ago(d.Seen))
	}
	g.row("added", ago(d.Created))
	g.row("labels", joinLabels(d.Labels))
	if b := d.Birth; b != nil {
		g.row("agent", b.Agent)
		g.row("kernel", b.Kernel)
		g.row("platform", b.OS+"/"+b.Arch)
		g.row("starts", b.Boot)
		g.row("free bytes", b.FreeBytes)
		for _, f := range b.Findings {
			g.row("found", f.Text)
		}
	}
	if d.Have == nil || len(d.Have.Models) == 0 {
		return
	}
	g.header("model", "version", "phase", "failed")
	for _, name := range slices.Sorted(maps.Keys(d.Have.Models)) {
		m := d.Have.Models[name]
		failed := "-"
		if f := m.Failed; f != nil {
			failed = fmt.Sprintf("%s: %s: %s", short(f.Digest.String()), f.Code, f.Message)
		}
		g.row(name, orDash(m.Version), m.Phase, failed)
	}
}

func upWord(d fleet.Device) string {
	switch {
	case d.Seen.IsZero():
		return "new"
	case d.Online:
		return "online"
	default:
		return "offline"
	}
}

// joinVersions lists the versions that answer on a device.
func joinVersions(have *protocol.Have) string {
	if have == nil {
		return "-"
	}
	var versions []string
	for _, m := range have.Models {
		if m.Version != "" {
			versions = append(versions, m.Version)
		}
	}
	slices.Sort(versions)
	return orDash(strings.Join(versions, ","))
}
