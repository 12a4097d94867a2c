"""A mesh that is large on paper: so many services with so many instances each, as each proxy wants to be told."""


# A file may hold some thousand documents; this many services stay well below.
PER_FILE = 50


def sidecar(folder, services, instances, listen):
    """Standalone documents and a configuration; gives the configuration's path."""
    documents = folder / "catalog"
    documents.mkdir(exist_ok=True)
    for begin in range(0, services, PER_FILE):
        texts = []
        for service in range(begin, min(begin + PER_FILE, services)):
            texts.append(f"apiVersion: mesh/v1\nkind: Service\nmetadata: {{name: shop.s{service}}}\nspec: {{protocol: grpc}}\n")
            texts += [
                f"apiVersion: mesh/v1\nkind: Instance\nmetadata: {{name: shop.s{service}/i{number}}}\n"
                f"spec: {{address: {address(service, number)}, port: 9000, locality: {{region: eu, zone: a}}, transport: plaintext}}\n"
                for number in range(instances)
            ]
        (documents / f"services-{begin}.yaml").write_text("---\n".join(texts))
    config = folder / "sidecar-catalog.yaml"
    config.write_text(f"node: {{service: bench.caller, id: a}}\nresources: {{file: {documents}}}\n"
                      f"outbound: {{listen: 127.0.0.1:{listen}}}\nmetrics: {{listen: 127.0.0.1:0}}\nthreads: 1\naccessLog: off\n")
    return config


def envoy(folder, services, instances, listen):
    """A cluster for each service, found by a virtual host of its name; gives the configuration's path."""
    hosts, clusters = [], []
    for service in range(services):
        hosts.append(f"            - {{name: s{service}, domains: [shop.s{service}], "
                     f"routes: [{{match: {{prefix: /}}, route: {{cluster: s{service}, timeout: 15s}}}}]}}")
        endpoints = ", ".join(
            f"{{endpoint: {{address: {{socket_address: {{address: {address(service, number)}, port_value: 9000}}}}}}}}"
            for number in range(instances))
        clusters.append(
            f"  - name: s{service}\n    type: STATIC\n    lb_policy: LEAST_REQUEST\n"
            "    typed_extension_protocol_options:\n      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n"
            '        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n'
            "        explicit_http_config: {http2_protocol_options: {}}\n"
            f"    load_assignment:\n      cluster_name: s{service}\n"
            f"      endpoints: [{{locality: {{region: eu, zone: a}}, lb_endpoints: [{endpoints}]}}]")
    config = folder / "envoy-catalog.yaml"
    config.write_text(f"""static_resources:
  listeners:
  - name: outbound
    address: {{socket_address: {{address: 127.0.0.1, port_value: {listen}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          codec_type: HTTP2
          route_config:
            virtual_hosts:
{chr(10).join(hosts)}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
{chr(10).join(clusters)}
""")
    return config


def address(service, number):
    """Distinct for each instance; nobody is there and nobody is called."""
    return f"10.{service // 250}.{service % 250}.{number + 1}"
