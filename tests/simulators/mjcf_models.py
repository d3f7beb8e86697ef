"""Small MJCF models for the tests."""

from __future__ import annotations

# A pole on a cart: no contact, no quaternion.
CARTPOLE = """
<mujoco>
  <option timestep="0.01" integrator="implicitfast"><flag contact="disable"/></option>
  <worldbody>
    <body name="cart">
      <joint name="slide" type="slide" axis="1 0 0" damping="0.01"/>
      <geom type="box" size="0.2 0.1 0.1" mass="1"/>
      <body name="pole" pos="0 0 0.1">
        <joint name="hinge" type="hinge" axis="0 1 0" damping="0.01"/>
        <geom type="capsule" fromto="0 0 0 0 0 1" size="0.04" mass="0.1"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="slide" gear="10" ctrllimited="true" ctrlrange="-2 1"/></actuator>
</mujoco>
"""

# A free body with a ball-jointed tail, muscles that follow their control slowly, and two sensors:
# quaternions, actuator states, and a floor where `{floor}` says so.
BUG = """
<mujoco>
  <option timestep="0.005" integrator="implicitfast"/>
  <worldbody>
    {floor}
    <body name="trunk" pos="0 0 {height}" euler="20 10 0">
      <freejoint/>
      <geom type="box" size="0.15 0.1 0.05" mass="1"/>
      <site name="back" pos="0 0 0.05"/>
      <body name="tail" pos="-0.15 0 0">
        <joint name="root" type="ball" damping="0.02"/>
        <geom type="capsule" fromto="0 0 0 -0.2 0 0" size="0.02" mass="0.2"/>
        <body name="tip" pos="-0.2 0 0">
          <joint name="bend" type="hinge" axis="0 1 0" pos="0.02 0 0" damping="0.02"/>
          <geom type="capsule" fromto="0 0 0 -0.1 0 0" size="0.02" mass="0.1"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <general joint="bend" dyntype="filter" dynprm="0.05" gainprm="0.5" ctrllimited="true"
      ctrlrange="-1 1"/>
    <motor joint="root" gear="0 0.3 0" ctrllimited="true" ctrlrange="-1 1"/>
  </actuator>
  <sensor><velocimeter site="back"/><touch name="belly" site="back"/></sensor>
</mujoco>
"""
FLYING = BUG.format(floor="", height=5)
STANDING = BUG.format(
    floor='<geom type="plane" size="5 5 1" solref="0.02 1" friction="0.8 0 0"/>', height=0.06
)
