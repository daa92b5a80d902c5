package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"klink/internal/config"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// object has the fields of a Kubernetes object that these tests check.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name        string
		Labels      map[string]string
		Annotations map[string]string
	}
	Spec struct {
		// of a Service
		Type      string
		ClusterIP string    `yaml:"clusterIP"`
		Selector  yaml.Node // of labels; in the other kinds, of matchLabels
		Ports     []struct {
			Name       string
			Port       int
			TargetPort int `yaml:"targetPort"`
		}
		// of a Deployment and a StatefulSet
		ServiceName string `yaml:"serviceName"`
		Replicas    int
		Template    struct {
			Metadata struct{ Labels map[string]string }
			Spec     podSpec
		}
	}
}

type podSpec struct {
	TerminationGracePeriodSeconds int             `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               map[string]any  `yaml:"securityContext"`
	Containers                    []containerSpec `yaml:"containers"`
	Volumes                       []struct {
		Name   string
		Secret struct {
			SecretName string `yaml:"secretName"`
		}
	}
}

type containerSpec struct {
	Args []string
	Env  []struct {
		Name string
	}
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	Lifecycle struct {
		PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
	}
	Readiness    probeSpec `yaml:"readinessProbe"`
	Liveness     probeSpec `yaml:"livenessProbe"`
	Resources    struct{ Requests, Limits map[string]string }
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type probeSpec struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

func deployFile(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("../../docs/deploy/" + name)
	require.NoError(t, err)
	return text
}

func objects(t *testing.T, name string) (list []object) {
	t.Helper()
	docs := yaml.NewDecoder(bytes.NewReader(deployFile(t, name)))
	for {
		var o object
		if err := docs.Decode(&o); errors.Is(err, io.EOF) {
			return list
		} else {
			require.NoError(t, err, name)
		}
		require.NotEmpty(t, o.APIVersion, name)
		require.NotEmpty(t, o.Metadata.Name, name)
		list = append(list, o)
	}
}

// serveConfig returns the settings of a `klink serve` of docs/deploy.
func serveConfig(t *testing.T, args []string) *config.Serve {
	t.Helper()
	require.Equal(t, "serve", args[0])
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.AddFlags(flags)
	require.NoError(t, flags.Parse(args[1:]))
	cfg, err := config.Load(flags, nil)
	require.NoError(t, err)
	require.NotEmpty(t, cfg.InstanceID)
	require.NotEmpty(t, cfg.HTTP)
	return cfg
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	return n
}

// serves checks that a Service has klink's port. If brokers is set, it must also have a port for
// each of three brokers. Each port must lead to the same port number, because klink tells clients
// its own port numbers.
func (o *object) serves(t *testing.T, cfg *config.Serve, brokers bool) {
	t.Helper()
	first := portOf(t, cfg.Listeners[0].Listen)
	names := map[string]int{}
	for _, p := range o.Spec.Ports {
		require.Zero(t, p.TargetPort, "%s: %s leads elsewhere", o.Metadata.Name, p.Name)
		names[p.Name] = p.Port
	}
	require.Len(t, names, len(o.Spec.Ports), "names of ports")
	require.Equal(t, first, names["bootstrap"])
	for n := range 3 {
		if brokers {
			require.Equal(t, first+1+n, names[fmt.Sprint("broker-", n+1)])
		}
	}
}

// The Kubernetes files of docs/deploy fit together: the settings exist; ports, probes, selectors,
// the secret and times agree.
func TestKubernetesFiles(t *testing.T) {
	for name, kind := range map[string]string{"kubernetes-deployment.yaml": "Deployment", "kubernetes-statefulset.yaml": "StatefulSet"} {
		t.Run(kind, func(t *testing.T) {
			all := objects(t, name)
			require.Len(t, all, 3)
			service, set, budget := all[0], all[1], all[2]
			require.Equal(t, []string{"Service", kind, "PodDisruptionBudget"}, []string{service.Kind, set.Kind, budget.Kind})
			require.Equal(t, 3, set.Spec.Replicas)
			pod := set.Spec.Template.Spec
			require.Len(t, pod.Containers, 1)
			klink := pod.Containers[0]
			names := []string{}
			for _, e := range klink.Env {
				names = append(names, e.Name)
			}
			ids := map[string]bool{}
			for i := range 3 {
				args := make([]string, len(klink.Args))
				for j, arg := range klink.Args {
					args[j] = regexp.MustCompile(`\$\((\w+)\)`).ReplaceAllStringFunc(arg, func(v string) string {
						require.Contains(t, names, strings.Trim(v, "$()"), arg)
						return fmt.Sprint("klink-", i)
					})
				}
				ids[serveConfig(t, args).InstanceID] = true
			}
			require.Len(t, ids, 3, "instances of the same name")
			cfg := serveConfig(t, klink.Args)

			// The selectors match the pods.
			labels := set.Spec.Template.Metadata.Labels
			var ofService map[string]string
			require.NoError(t, service.Spec.Selector.Decode(&ofService))
			require.Equal(t, labels, ofService)
			for _, o := range []object{set, budget} {
				var selector struct {
					MatchLabels map[string]string `yaml:"matchLabels"`
				}
				require.NoError(t, o.Spec.Selector.Decode(&selector))
				require.Equal(t, labels, selector.MatchLabels)
			}
			headless := service.Spec.ClusterIP == "None"
			require.Equal(t, kind == "StatefulSet", headless)
			service.serves(t, cfg, !headless)
			if headless {
				require.Equal(t, service.Metadata.Name, set.Spec.ServiceName)
				require.Equal(t, "$(POD_NAME)."+service.Metadata.Name+".$(POD_NAMESPACE).svc", cfg.Listeners[0].Advertise)
			}

			ports := map[string]int{}
			for _, p := range klink.Ports {
				ports[p.Name] = p.ContainerPort
			}
			require.Equal(t, map[string]int{"http": portOf(t, cfg.HTTP), "bootstrap": portOf(t, cfg.Listeners[0].Listen)}, ports)
			for path, probe := range map[string]probeSpec{"/readyz": klink.Readiness, "/healthz": klink.Liveness} {
				require.Equal(t, path, probe.HTTPGet.Path)
				require.Equal(t, "http", probe.HTTPGet.Port)
			}
			grace := time.Duration(pod.TerminationGracePeriodSeconds-klink.Lifecycle.PreStop.Sleep.Seconds) * time.Second
			require.GreaterOrEqual(t, grace, cfg.DrainTimeout+5*time.Second)

			// The files are in the secret; the image's user may read it; and klink needs to write
			// no files.
			require.Len(t, pod.Volumes, 1)
			require.Len(t, klink.VolumeMounts, 1)
			require.Equal(t, pod.Volumes[0].Name, klink.VolumeMounts[0].Name)
			require.Equal(t, klink.VolumeMounts[0].MountPath, path.Dir(cfg.SecretsKeyFile))
			require.Equal(t, klink.VolumeMounts[0].MountPath, path.Dir(cfg.DestinationConfig))
			dockerfile, err := os.ReadFile("../../Dockerfile")
			require.NoError(t, err)
			user := fmt.Sprint(pod.SecurityContext["runAsUser"])
			require.Contains(t, string(dockerfile), "USER "+user+":"+user)
			require.EqualValues(t, pod.SecurityContext["runAsUser"], pod.SecurityContext["fsGroup"])

			var limit int64
			_, err = fmt.Sscanf(klink.Resources.Limits["memory"], "%dGi", &limit)
			require.NoError(t, err)
			require.GreaterOrEqual(t, limit<<30, 2*cfg.ReplicatorMemory)
		})
	}
}

// Each pod of the StatefulSet has a Service that leads to it alone, with the ports that klink tells
// clients.
func TestKubernetesServices(t *testing.T) {
	const name = "kubernetes-services.yaml"
	set := objects(t, "kubernetes-statefulset.yaml")[1]
	advertise := regexp.MustCompile(`(?m)^# +--advertise=(\S+)$`).FindSubmatch(deployFile(t, name))
	require.NotNil(t, advertise)
	services := objects(t, name)
	require.Len(t, services, set.Spec.Replicas)
	for i, service := range services {
		pod := fmt.Sprintf("%s-%d", set.Metadata.Name, i)
		args := append([]string{}, set.Spec.Template.Spec.Containers[0].Args...)
		args = append(args, "--advertise="+strings.ReplaceAll(string(advertise[1]), "$(POD_NAME)", pod))
		cfg := serveConfig(t, args)
		service.serves(t, cfg, true)
		require.Equal(t, "LoadBalancer", service.Spec.Type)
		require.Equal(t, cfg.Listeners[0].Advertise, service.Metadata.Annotations["external-dns.alpha.kubernetes.io/hostname"])
		var selector map[string]string
		require.NoError(t, service.Spec.Selector.Decode(&selector))
		require.Equal(t, map[string]string{"statefulset.kubernetes.io/pod-name": pod}, selector)
	}
}

// The instances of the Compose file differ where they must, publish the ports that they tell
// clients, and find the broker.
func TestComposeFile(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Image     string
			Build     string
			Command   []string
			Ports     []string
			Grace     string   `yaml:"stop_grace_period"`
			DependsOn []string `yaml:"depends_on"`
			Restart   string
			Env       map[string]any `yaml:"environment"`
		}
	}
	require.NoError(t, yaml.Unmarshal(deployFile(t, "compose.yaml"), &file))
	published, ids, clients := map[string]bool{}, map[string]bool{}, []string{}
	for name, s := range file.Services {
		for _, p := range s.Ports {
			host, _, _ := strings.Cut(p, ":")
			require.False(t, published[host], "port %s is published twice", host)
			published[host] = true
		}
		if len(s.Command) == 0 {
			require.Equal(t, "kafka", name)
			continue
		}
		require.Equal(t, "../..", s.Build, "where the Dockerfile is")
		cfg := serveConfig(t, s.Command)
		first := portOf(t, cfg.Listeners[0].Listen)
		clients = append(clients, cfg.Listeners[0].Advertise+":"+strconv.Itoa(first))
		require.Contains(t, s.Ports, fmt.Sprintf("%d-%d:%[1]d-%d", first, first+1), "the bootstrap port and one for the broker, of the same numbers inside and outside")
		require.Contains(t, strings.Join(s.Ports, " "), fmt.Sprintf(":%d", portOf(t, cfg.HTTP)))
		ids[cfg.InstanceID] = true
		grace, err := time.ParseDuration(s.Grace)
		require.NoError(t, err)
		require.GreaterOrEqual(t, grace, cfg.DrainTimeout+5*time.Second)
		require.Equal(t, "PLAINTEXT://"+cfg.Destination[0], file.Services["kafka"].Env["KAFKA_ADVERTISED_LISTENERS"])
	}
	require.Len(t, ids, 3, "instances of the same name")
	for _, address := range clients {
		require.Contains(t, string(deployFile(t, "compose.yaml")), address, "what clients bootstrap from")
	}
	require.FileExists(t, "../../Dockerfile")
}

// The Dockerfile builds klink as `make build` does, and runs that binary.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile("../../Dockerfile")
	require.NoError(t, err)
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	flags := func(text []byte, version string) string {
		m := regexp.MustCompile(`CGO_ENABLED=0 go build -trimpath -ldflags ['"](.*?)['"] -o \S+ (\S+)`).FindStringSubmatch(
			strings.ReplaceAll(string(text), "$(LDFLAGS)", regexp.MustCompile(`(?m)^LDFLAGS +:= (.*)$`).FindStringSubmatch(string(makefile))[1]))
		require.NotNil(t, m)
		return strings.ReplaceAll(m[1], version, "VERSION") + " " + m[2]
	}
	require.Equal(t, flags(makefile, "$(VERSION)"), flags(text, "${VERSION}"))
	gomod, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	wants := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(gomod)
	require.Contains(t, string(text), "FROM golang:"+string(wants[1])+" AS build")
	require.Contains(t, string(text), "--from=build /klink /klink\n")
	require.Contains(t, string(text), `ENTRYPOINT ["/klink"]`)
}
