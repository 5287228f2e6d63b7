use std::time::Instant;
use l4way_resources::{AnyObject, Snapshot};
use l4way_translate::*;
use serde_json::json;
fn put(s:&mut Snapshot,k:&str,v:serde_json::Value){ s.insert(AnyObject::from_value(k,v).unwrap().unwrap()); }
#[test]
fn perf(){
  let mut s=Snapshot::default();
  let broken = std::env::var("BROKEN").is_ok();
  for g in 0..1000 { let ls:Vec<_>=(0..10).map(|i|json!({"name":format!("l{i}"),"protocol":"TCP","port":9000+i})).collect();
    put(&mut s,"Gateway",json!({"metadata":{"name":format!("g{g}"),"namespace":"default"},"spec":{"gatewayClassName":"x","listeners":ls}})); }
  for r in 0..10000 { put(&mut s,"TCPRoute",json!({"metadata":{"name":format!("r{r}"),"namespace":"default"},"spec":{"parentRefs":[{"name":format!("g{}",r%1000),"sectionName":format!("l{}",r/1000)}],"rules":[{"backendRefs":[{"name":format!("{}{r}",if broken {"x"} else {"s"}),"port":80}]}]}}));
    put(&mut s,"Service",json!({"metadata":{"name":format!("s{r}"),"namespace":"default"},"spec":{"ports":[{"port":80}]}}));
    let e:Vec<_>=(0..10).map(|i|json!({"addresses":[format!("10.{}.{}.{}",r/250,r%250,i)]})).collect();
    put(&mut s,"EndpointSlice",json!({"metadata":{"name":format!("s{r}-1"),"namespace":"default","labels":{"kubernetes.io/service-name":format!("s{r}")}},"addressType":"IPv4","ports":[{"port":80}],"endpoints":e})); }
  let settings=Settings{addresses:Addresses::Pool{pool:"127.1.0.0/20".parse().unwrap(),held:Default::default()},..Settings::default()};
  let t=Instant::now(); let g=graph(&s,&settings); println!("graph {:?}",t.elapsed());
  let t=Instant::now(); let c=compile(&g); println!("compile {:?} {} {}",t.elapsed(),c.config.listeners().len(),c.backends.len());
  let t=Instant::now(); let st=status(&g,&Default::default()); println!("status {:?} {}",t.elapsed(),st.len());
  let t=Instant::now(); let p=problems(&g); println!("problems {:?} {}",t.elapsed(),p.len());
}
#[test]
fn perf_shared(){
  // every Gateway wants the same ports; all routes on one listener
  let mut s=Snapshot::default();
  for g in 0..1000 { let ls:Vec<_>=(0..10).map(|i|json!({"name":format!("l{i}"),"protocol":"TCP","port":9000+i})).collect();
    put(&mut s,"Gateway",json!({"metadata":{"name":format!("g{g}"),"namespace":"default"},"spec":{"gatewayClassName":"x","listeners":ls}})); }
  for r in 0..10000 { put(&mut s,"TCPRoute",json!({"metadata":{"name":format!("r{r}"),"namespace":"default"},"spec":{"parentRefs":[{"name":"g0"}, {"name":"nope"}],"rules":[{"backendRefs":[{"name":"s","port":80}]}]}})); }
  let t=Instant::now(); let g=graph(&s,&Settings::default()); println!("shared graph {:?}",t.elapsed());
  let t=Instant::now(); let st=status(&g,&Default::default()); println!("shared status {:?} {}",t.elapsed(),st.len());
  let t=Instant::now(); let p=problems(&g); println!("shared problems {:?} {}",t.elapsed(),p.len());
}
