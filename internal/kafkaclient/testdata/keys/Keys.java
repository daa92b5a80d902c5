import java.lang.reflect.*;
import java.util.*;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.config.*;

/** Prints the keys of the client configs of the kafka-clients jar on the class path: KEY CLIENTS TYPE. */
public class Keys {
    public static void main(String[] args) throws Exception {
        TreeMap<String, TreeSet<String>> keys = new TreeMap<>();
        TreeMap<String, String> types = new TreeMap<>();
        add(keys, types, "admin", AdminClientConfig.configDef());
        add(keys, types, "consumer", definition(ConsumerConfig.class));
        add(keys, types, "producer", definition(ProducerConfig.class));
        ConfigDef security = new ConfigDef();
        SslConfigs.addClientSslSupport(security);
        SaslConfigs.addClientSaslSupport(security);
        add(keys, types, "security", security);
        for (String key : keys.keySet())
            System.out.println(key + " " + String.join(",", keys.get(key)) + " " + types.get(key));
    }
    static ConfigDef definition(Class<?> c) throws Exception {
        Field f = c.getDeclaredField("CONFIG");
        f.setAccessible(true);
        return (ConfigDef) f.get(null);
    }
    static void add(TreeMap<String, TreeSet<String>> keys, TreeMap<String, String> types, String client, ConfigDef def) {
        for (Map.Entry<String, ConfigDef.ConfigKey> e : def.configKeys().entrySet()) {
            keys.computeIfAbsent(e.getKey(), k -> new TreeSet<>()).add(client);
            types.put(e.getKey(), e.getValue().type.name().toLowerCase());
        }
    }
}
